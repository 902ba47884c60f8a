// Error numbers of the C side in words.

import { getSystemErrorMap } from "node:util";

/** "bad file descriptor (EBADF)" */
export function errorName(errno: number): string {
  const known = getSystemErrorMap().get(-errno);
  return known === undefined ? `errno ${errno}` : `${known[1]} (${known[0]})`;
}
