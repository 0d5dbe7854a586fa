// Tables of the npm flatbuffers runtime without generated code: fields by slot, as protocol.md §5 lists them.
// Next: messages.mjs.

import { Builder, ByteBuffer } from "flatbuffers";

/** One table of a received message. Slots count from 0; an absent field is null, 0 or empty. */
export class TableReader {
  constructor(buffer, position) {
    this.buffer = buffer;
    this.position = position;
  }

  static root(message) {
    const buffer = new ByteBuffer(message);
    return new TableReader(buffer, buffer.readInt32(0));
  }

  at(slot) {
    const offset = this.buffer.__offset(this.position, 4 + 2 * slot);
    return offset === 0 ? 0 : this.position + offset;
  }

  u8(slot) {
    const at = this.at(slot);
    return at === 0 ? 0 : this.buffer.readUint8(at);
  }

  u32(slot) {
    const at = this.at(slot);
    return at === 0 ? 0 : this.buffer.readUint32(at);
  }

  bytes(slot) {
    const at = this.at(slot);
    if (at === 0) return null;
    const start = this.buffer.__vector(at);
    return this.buffer.bytes().subarray(start, start + this.buffer.__vector_len(at));
  }

  text(slot) {
    const at = this.at(slot);
    return at === 0 ? null : this.buffer.__string(at);
  }

  table(slot) {
    const at = this.at(slot);
    return at === 0 ? null : new TableReader(this.buffer, this.buffer.__indirect(at));
  }

  /** The name that `names` has for the tag in `slot`, and the table in the slot after it. */
  union(slot, names) {
    const name = names[this.u8(slot)];
    if (name === undefined) throw new Error(`unknown union tag ${this.u8(slot)}`);
    return [name, this.table(slot + 1)];
  }
}

/**
 * A message from nested descriptions: a table is an array of fields by slot. A field is null (absent),
 * a number (u32), {u8}, a boolean, a string, a Uint8Array, a table, or {tables: [table, …]}.
 */
export function build(root, sizeHint = 1024) {
  const builder = new Builder(sizeHint);
  builder.finish(writeTable(builder, root));
  return builder.asUint8Array();
}

function writeTable(builder, fields) {
  // whatever stands elsewhere in the message is written before the table that refers to it
  const values = fields.map((field) => (isScalar(field) ? field : writeObject(builder, field)));
  builder.startObject(fields.length);
  fields.forEach((field, slot) => {
    const value = values[slot];
    if (field === null) return;
    if (typeof field === "boolean") builder.addFieldInt8(slot, Number(value), 0);
    else if (typeof field === "number") builder.addFieldInt32(slot, value, 0);
    else if (isScalar(field)) builder.addFieldInt8(slot, value.u8, 0);
    else builder.addFieldOffset(slot, value, 0);
  });
  return builder.endObject();
}

function isScalar(field) {
  return field === null || typeof field === "boolean" || typeof field === "number" || field.u8 !== undefined;
}

function writeObject(builder, field) {
  if (typeof field === "string") return builder.createString(field);
  if (field instanceof Uint8Array) return builder.createByteVector(field);
  if (Array.isArray(field)) return writeTable(builder, field);
  const offsets = field.tables.map((table) => writeTable(builder, table));
  builder.startVector(4, offsets.length, 4);
  for (const offset of offsets.reverse()) builder.addOffset(offset);
  return builder.endVector();
}
