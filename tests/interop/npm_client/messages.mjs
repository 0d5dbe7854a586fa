// What a client asks and what a node answers, in the tables of protocol.md §5. Next: connection.mjs.

import { TableReader, build } from "./tables.mjs";

const ROOM_BESIDES_PAYLOAD = 4096;
const NO_HASH = new Uint8Array(32);

// ---- requests ------------------------------------------------------------------------------------

const contractRequest = (tag, table, payloadBytes = 0) =>
  build([{ u8: 1 }, [{ u8: tag }, table]], payloadBytes + ROOM_BESIDES_PAYLOAD);

const contractKey = (instance, code) => [[instance], code];

/** The key inside is left to the node, which computes it from code and parameters. */
export function put(code, parameters, state, { subscribe = false } = {}) {
  const contract = [[code, NO_HASH], parameters, contractKey(NO_HASH, NO_HASH)];
  const related = [{ tables: [] }];
  return contractRequest(1, [[{ u8: 1 }, contract], state, related, subscribe, false], state.length + code.length);
}

const UPDATES = { State: 1, Delta: 2 };

export function update(key, kind, data) {
  const updateData = [{ u8: UPDATES[kind] }, [data]];
  return contractRequest(2, [contractKey(key.instance, key.code), updateData], data.length);
}

export function get(key, { withCode = false, subscribe = false } = {}) {
  return contractRequest(3, [contractKey(key.instance, null), withCode, subscribe, false]);
}

export function subscribe(key, summary = null) {
  return contractRequest(4, [contractKey(key.instance, null), summary]);
}

export const disconnect = (cause) => build([{ u8: 3 }, [cause]]);

export const authenticate = (token) => build([{ u8: 4 }, [token]]);

export function streamChunk(streamId, index, total, data) {
  return build([{ u8: 5 }, [streamId, index, total, data]], data.length + ROOM_BESIDES_PAYLOAD);
}

// ---- responses -----------------------------------------------------------------------------------

const HOST_RESPONSES = [, "ContractResponse", "DelegateResponse", "GenerateRandData", "Ok", "Error", "StreamChunk"];

const CONTRACT_RESPONSES = [
  ,
  "GetResponse",
  "PutResponse",
  "UpdateNotification",
  "UpdateResponse",
  "NotFound",
  "SubscribeResponse",
];

const UPDATE_DATA = [, "State", "Delta", "StateAndDelta", "RelatedState", "RelatedDelta", "RelatedStateAndDelta"];

/** A message of the node's as `{type, …}`; byte fields are views of the message. */
export function readResponse(message) {
  const [type, table] = TableReader.root(message).union(0, HOST_RESPONSES);
  switch (type) {
    case "ContractResponse":
      return readContractResponse(...table.union(0, CONTRACT_RESPONSES));
    case "StreamChunk":
      return { type, streamId: table.u32(0), index: table.u32(1), total: table.u32(2), data: table.bytes(3) };
    case "Ok":
    case "Error":
      return { type, message: table.text(0) };
    default:
      return { type };
  }
}

function readContractResponse(type, table) {
  switch (type) {
    case "GetResponse":
      return { type, key: readKey(table), code: readCode(table.table(1)), state: table.bytes(2) };
    case "UpdateNotification": {
      const [kind, data] = table.table(1).union(0, UPDATE_DATA);
      return { type, key: readKey(table), kind, data: data.bytes(0) };
    }
    case "UpdateResponse":
      return { type, key: readKey(table), summary: table.bytes(1) };
    case "SubscribeResponse":
      return { type, key: readKey(table), subscribed: table.u8(1) !== 0 };
    case "NotFound":
      return { type, instance: copied(table.table(0).bytes(0)) };
    default:
      return { type, key: readKey(table) };
  }
}

function readKey(table) {
  const key = table.table(0);
  return { instance: copied(key.table(0).bytes(0)), code: copied(key.bytes(1)) };
}

function readCode(container) {
  return container === null ? null : container.union(0, [, "WasmContractV1"])[1].table(0).bytes(0);
}

const copied = (bytes) => (bytes === null ? null : bytes.slice());
