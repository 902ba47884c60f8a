// The font without its tables for kerning and ligatures. Texts are laid out letter by letter, as
// they are measured, and alike in all formats: Inter pulls "7,1" together until the comma is hard to
// see, and draws "->" and "10x10" in a name as an arrow and a cross, which are not in the name.
//
// OpenType 1.9, "The OpenType Font File": a directory of tables (tag, checksum, offset, length).

const LEFT_OUT: readonly string[] = ["GPOS", "GSUB", "GDEF"];

const HEAD_BYTES = 12;
const ENTRY_BYTES = 16;
/** In the table `head`: makes the sum of the whole file this number. */
const ADJUSTMENT_AT = 8;
const FILE_SUM = 0xb1b0afba;

export function withoutLayout(font: Buffer): Buffer {
  const tables: { entry: Buffer; body: Buffer }[] = [];
  for (let i = 0; i < font.readUInt16BE(4); i++) {
    const at = HEAD_BYTES + i * ENTRY_BYTES;
    const entry = Buffer.from(font.subarray(at, at + ENTRY_BYTES));
    const from = entry.readUInt32BE(8);
    const body = font.subarray(from, from + entry.readUInt32BE(12));
    if (!LEFT_OUT.includes(tagOf(entry))) tables.push({ entry, body });
  }
  const head = Buffer.from(font.subarray(0, HEAD_BYTES));
  const log2 = Math.floor(Math.log2(tables.length));
  head.writeUInt16BE(tables.length, 4);
  head.writeUInt16BE(ENTRY_BYTES << log2, 6);
  head.writeUInt16BE(log2, 8);
  head.writeUInt16BE(ENTRY_BYTES * tables.length - (ENTRY_BYTES << log2), 10);
  let end = HEAD_BYTES + ENTRY_BYTES * tables.length;
  const parts = [head, ...tables.map(({ entry }) => entry)];
  let adjustmentAt = 0;
  for (const { entry, body } of tables) {
    entry.writeUInt32BE(end, 8);
    if (tagOf(entry) === "head") adjustmentAt = end + ADJUSTMENT_AT;
    // Each table begins at a whole word.
    parts.push(body, Buffer.alloc(-body.length & 3));
    end += (body.length + 3) & ~3;
  }
  const plain = Buffer.concat(parts);
  plain.writeUInt32BE(0, adjustmentAt);
  let sum = 0;
  for (let at = 0; at < plain.length; at += 4) sum = (sum + plain.readUInt32BE(at)) >>> 0;
  plain.writeUInt32BE((FILE_SUM - sum) >>> 0, adjustmentAt);
  return plain;
}

function tagOf(entry: Buffer): string {
  return entry.toString("latin1", 0, 4);
}
