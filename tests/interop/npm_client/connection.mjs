// One WebSocket to a node: requests out, whole or in chunks; responses in, put together. Next: client.mjs.

import WebSocket from "ws";

import { readResponse, streamChunk } from "./messages.mjs";

export const CHUNK_BYTES = 262_144;
const ANSWER_TIMEOUT_MS = 30_000;

export class Connection {
  /** Opens a connection; `options` are `ws`'s. */
  static async open(url, options = {}) {
    const socket = new WebSocket(url, { perMessageDeflate: true, maxPayload: 0, ...options });
    const connection = new Connection(socket);
    await new Promise((resolve, reject) => {
      socket.once("open", resolve);
      socket.once("error", reject);
    });
    return connection;
  }

  constructor(socket) {
    this.socket = socket;
    this.arrived = [];
    this.waiting = [];
    this.streams = new Map();
    this.nextStreamId = 0;
    this.closed = new Promise((resolve) => {
      socket.once("close", (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    socket.on("message", (message, isBinary) => {
      if (!isBinary) throw new Error("a node sends binary messages only");
      this.take(new Uint8Array(message.buffer, message.byteOffset, message.byteLength));
    });
  }

  take(message) {
    const response = readResponse(message);
    if (response.type !== "StreamChunk") {
      this.deliver({ ...response, chunks: 0 });
      return;
    }
    const { streamId, index, total, data } = response;
    if (!this.streams.has(streamId)) this.streams.set(streamId, []);
    const pieces = this.streams.get(streamId);
    if (index !== pieces.length) throw new Error(`chunk ${index} came where ${pieces.length} was due`);
    pieces.push(data);
    if (pieces.length === total) {
      this.streams.delete(streamId);
      this.deliver({ ...readResponse(new Uint8Array(Buffer.concat(pieces))), chunks: total });
    }
  }

  deliver(response) {
    const waiter = this.waiting.shift();
    if (waiter) waiter(response);
    else this.arrived.push(response);
  }

  /** The next response. */
  receive() {
    if (this.arrived.length > 0) return Promise.resolve(this.arrived.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no answer")), ANSWER_TIMEOUT_MS);
      this.waiting.push((response) => {
        clearTimeout(timer);
        resolve(response);
      });
    });
  }

  /** Sends a message as it is. */
  send(message) {
    this.socket.send(message);
  }

  /** Sends a message as StreamChunks, in the order that `arrange` puts them in. */
  sendInChunks(message, arrange = (chunks) => chunks) {
    const streamId = this.nextStreamId++;
    const total = Math.ceil(message.length / CHUNK_BYTES);
    const chunks = Array.from({ length: total }, (_, index) =>
      streamChunk(streamId, index, total, message.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES)),
    );
    for (const chunk of arrange(chunks)) this.send(chunk);
  }

  async ask(message) {
    this.send(message);
    return this.receive();
  }

  close() {
    this.socket.close(1000);
    return this.closed;
  }
}
