// node client.mjs roundtrip|subscribe|errors URL [JSON]: does it, and prints what happened as a line of JSON.
// Bytes that come back are compared here; everything else is judged by who runs this.

import { randomBytes } from "node:crypto";

import { CHUNK_BYTES, Connection } from "./connection.mjs";
import { authenticate, disconnect, get, put, streamChunk, subscribe, update } from "./messages.mjs";

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const encode = (text) => new TextEncoder().encode(text);
const NOBODYS = { instance: new Uint8Array(32).fill(7), code: new Uint8Array(32).fill(7) };

function expect(condition, what) {
  if (!condition) throw new Error(what);
}

/** The answer's bytes are no part of the complaint: millions of them, as text, take seconds to make. */
function expectAnswer(answer, type) {
  expect(answer.type === type, `${type} was due and ${answer.type} came: ${answer.message ?? ""}`);
}

function payload(length, seed) {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = (at * 7 + seed) % 251;
  return bytes;
}

/** PUT and GET of states of so many bytes, each under a contract of its own. */
async function roundtrip(url, { sizes, upload = "whole" }) {
  const connection = await Connection.open(url);
  const results = [];
  for (const [seed, size] of sizes.entries()) {
    const state = payload(size, seed);
    const code = randomBytes(100);
    const parameters = encode("npm");
    const message = put(code, parameters, state);
    if (upload === "whole") connection.send(message);
    else connection.sendInChunks(message, (chunks) => (upload === "reversed" ? chunks.reverse() : chunks));
    const stored = await connection.receive();
    expectAnswer(stored, "PutResponse");
    const got = await connection.ask(get(stored.key, { withCode: true }));
    expectAnswer(got, "GetResponse");
    expect(Buffer.compare(got.state, state) === 0, `a state of ${size} bytes came back as another`);
    expect(Buffer.compare(got.code, code) === 0, "the code came back as another");
    results.push({
      size,
      uploadChunks: upload === "whole" ? 0 : Math.ceil(message.length / CHUNK_BYTES),
      downloadChunks: got.chunks,
      code: hex(code),
      parameters: hex(parameters),
      instance: hex(stored.key.instance),
      codeHash: hex(stored.key.code),
    });
  }
  const { code } = await connection.close();
  return { extensions: connection.socket.extensions, closeCode: code, results };
}

/** Updates, as their author and as subscribers see them, one of which gave a summary. */
async function subscribing(url, { size }) {
  const [author, whole, deltas] = await Promise.all([1, 2, 3].map(() => Connection.open(url)));
  const { key } = await author.ask(put(randomBytes(100), encode("npm"), encode("old")));
  const subscribed = [
    await whole.ask(subscribe(key, new Uint8Array(0))),
    await deltas.ask(subscribe(key, encode("a summary"))),
  ];
  const steps = [];
  let state = encode("old");
  for (const [kind, data] of [
    ["State", payload(size, 1)],
    ["Delta", encode("and more")],
  ]) {
    state = kind === "State" ? data : Buffer.concat([state, data]);
    const answer = await author.ask(update(key, kind, data));
    const [toWhole, toDeltas] = [await whole.receive(), await deltas.receive()];
    expect(Buffer.compare(toWhole.data, state) === 0, "a subscriber was told another state");
    expect(Buffer.compare(toDeltas.data, toDeltas.kind === "Delta" ? data : state) === 0, "another delta was told");
    steps.push({
      kind,
      answer: answer.type,
      summary: hex(answer.summary),
      toWhole: [toWhole.type, toWhole.kind, toWhole.chunks],
      toDeltas: [toDeltas.type, toDeltas.kind, toDeltas.chunks],
    });
  }
  await Promise.all([author, whole, deltas].map((connection) => connection.close()));
  return { subscribed: subscribed.map((answer) => [answer.type, answer.subscribed]), steps };
}

/** What cannot be done, and that the connection outlives it. */
async function errors(url) {
  const connection = await Connection.open(url);
  const { key } = await connection.ask(put(randomBytes(100), encode("npm"), encode("state")));
  const attempts = {
    "get of an unknown contract": get(NOBODYS),
    "subscribe to an unknown contract": subscribe(NOBODYS),
    "update of an unknown contract": update(NOBODYS, "State", encode("new")),
    "put of too large a state": put(randomBytes(10), encode(""), new Uint8Array(50 * 1024 * 1024 + 1)),
    "a message that is none": encode("what is this?"),
    "a chunk of nothing": streamChunk(3, 0, 0, new Uint8Array(0)),
  };
  const answers = {};
  for (const [what, message] of Object.entries(attempts)) {
    const answer = await connection.ask(message);
    answers[what] = [answer.type, answer.message ?? null];
    expect((await connection.ask(get(key))).type === "GetResponse", `the connection did not outlive ${what}`);
  }
  connection.send(authenticate("a node without tokens takes any"));
  connection.send(disconnect("enough"));
  return { answers, closed: await connection.closed };
}

const COMMANDS = { roundtrip, subscribe: subscribing, errors };
const [command, url, options = "{}"] = process.argv.slice(2);
console.log(JSON.stringify(await COMMANDS[command](url, JSON.parse(options))));
