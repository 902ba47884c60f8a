// Addresses inside C structures that TypeScript lays out itself.

import type { Pointer } from "bun:ffi";

/** Writes a 64-bit little-endian pointer. */
export function putAddress(view: DataView, offset: number, address: Pointer | number): void {
  view.setUint32(offset, address >>> 0, true);
  view.setUint32(offset + 4, Math.floor(address / 4294967296), true);
}
