// An end-to-end test: in network namespaces of its own, with captures, with real programs; where
// one of these is not to be had it is skipped and says why.

import { needsNamespaces } from "./privilege.ts";

export function e2e(
  name: string,
  body: () => Promise<void>,
  timeoutMs = 60_000,
  programs: readonly string[] = [],
): void {
  needsNamespaces(name, body, {
    timeoutMs, programs: ["ip", "tc", "nsenter", "tcpdump", "cc", ...programs],
  });
}
