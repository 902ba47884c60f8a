// Names of a log's earlier files, as logrotate gives them where it keeps an extension: kqtime.log,
// kqtime.log.1, kqtime.log.2, …, the oldest last; kqtime.log.gz, kqtime.log.1.gz, …

import { lstatSync, renameSync } from "node:fs";

export interface Rotation {
  /** No file grows beyond it, unless by one write, one moment's queue lengths, or the books. */
  readonly sizeBytes: number;
  /** Files that are kept, the one that is written to included. */
  readonly files: number;
}

export function rotatedPath(path: string, number: number): string {
  return path.endsWith(".gz") ? `${path.slice(0, -3)}.${number}.gz` : `${path}.${number}`;
}

/**
 * Makes `path` free: what is there becomes number 1, number 1 becomes 2, up to the first number that
 * is not in use; the last one goes. Links are moved, not followed. @throws as rename(2) does
 */
export function moveAside(path: string, files: number): void {
  let free = 1;
  while (free < files - 1 && isThere(rotatedPath(path, free))) free++;
  for (; free > 1; free--) renameSync(rotatedPath(path, free - 1), rotatedPath(path, free));
  renameSync(path, rotatedPath(path, 1));
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
