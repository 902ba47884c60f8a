// What a stranger can read of a log, complete or cut off.

import { existsSync, readFileSync } from "node:fs";
import { createGunzip } from "node:zlib";

/** @throws if a compressed log is worse than cut off */
export async function readable(path: string): Promise<string> {
  if (!existsSync(path)) return "";
  const file = readFileSync(path);
  if (!path.endsWith(".gz")) return file.toString();
  const gunzip = createGunzip();
  const parts: Buffer[] = [];
  gunzip.on("data", (part: Buffer) => parts.push(part));
  const end = new Promise<string | null>((resolve) => {
    gunzip.on("end", () => resolve(null));
    gunzip.on("error", (error: Error) => resolve(error.message));
  });
  gunzip.end(file);
  const failure = await end;
  if (failure !== null && !/unexpected end of file/.test(failure)) throw new Error(`${path}: ${failure}`);
  return Buffer.concat(parts).toString();
}
