// What a stranger can read of a log, complete or cut off. A compressed one is read member by member, by
// the lengths in their headers: only the last may be cut, and whatever else is wrong is an error.

import { existsSync, readFileSync } from "node:fs";
import { constants, gunzipSync, inflateRawSync } from "node:zlib";

/** RFC 1952, section 2.3: deflate, an extra field of 8 bytes, in it "KQ" and 4 bytes: the length. */
const SIGNATURE = Buffer.from("1f8b08040000000000030800" + "4b510400", "hex");
const HEADER_BYTES = SIGNATURE.length + 4;

/** @throws if a compressed log is worse than cut off */
export async function readable(path: string): Promise<string> {
  if (!existsSync(path)) return "";
  const file = readFileSync(path);
  return path.endsWith(".gz") ? textOf(file, path) : file.toString();
}

function textOf(file: Buffer, path: string): string {
  const parts: Buffer[] = [];
  for (let at = 0; at < file.length; ) {
    const rest = file.subarray(at);
    const begun = Math.min(SIGNATURE.length, rest.length);
    if (!rest.subarray(0, begun).equals(SIGNATURE.subarray(0, begun))) {
      throw new Error(`${path}: no member begins at byte ${at}`);
    }
    const length = rest.length < HEADER_BYTES ? Infinity : rest.readUInt32LE(SIGNATURE.length);
    if (length > rest.length) {
      if (rest.includes(SIGNATURE, 1)) throw new Error(`${path}: the member at byte ${at} is torn`);
      const body = rest.subarray(HEADER_BYTES);
      if (body.length > 0) parts.push(inflateRawSync(body, { finishFlush: constants.Z_SYNC_FLUSH }));
      break;
    }
    try {
      parts.push(gunzipSync(rest.subarray(0, length)));
    } catch (error) {
      throw new Error(`${path}: the member at byte ${at}: ${String(error)}`);
    }
    at += length;
  }
  return Buffer.concat(parts).toString();
}
