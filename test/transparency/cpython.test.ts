// CPython's own tests of its sockets, as Debian packages them, pass, fail and skip the same under
// kqtime as without it. KQTIME_CPYTHON=all runs the whole of test_asyncio, test_subprocess and the
// slow ones too, which takes minutes.

import { describe } from "bun:test";
import { endsTheSame, findPython } from "./same.ts";

const ALL = process.env.KQTIME_CPYTHON === "all";
const MODULES = [
  ["test_socketserver", "test_select", "test_epoll", "test_selectors", "test_poll", "test_os"],
  ["test_socket"],
  ["test_ssl"],
  ALL
    ? ["test_asyncio", "test_subprocess"]
    : ["sock_lowlevel", "server", "sendfile", "streams", "buffered_proto", "unix_events", "sslproto"]
      .map((name) => `test.test_asyncio.test_${name}`),
];

const python = findPython("import test.test_socket");

describe.concurrent("CPython's tests", () => {
  for (const modules of MODULES) {
    const name = modules[0]!.replace(/^test\.test_asyncio.*/, "parts of test_asyncio");
    endsTheSame(python === false ? "needs CPython's test package" : null, {
      name: `${name}${modules.length > 1 && name === modules[0] ? " and others" : ""}`,
      timeoutMs: ALL ? 600_000 : 280_000,
      command: (report, folder, only) => [
        python as string, "-m", "test", "--junit-xml", report, "--tempdir", folder,
        // Hangs, with or without kqtime, where the kernel has no loopback of that family.
        "-i", "*VSOCK*",
        // The module asks for it; outside of this machine is nothing.
        ...(modules.includes("test_socketserver") ? ["-u", "network"] : []),
        ...modules, ...only.flatMap((id) => ["-m", id]),
      ],
    });
  }
});
