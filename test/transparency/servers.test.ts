// The own tests of Tornado, a web server, and of Twisted, servers and clients of many protocols,
// pass, fail and skip the same under kqtime as without it. Debian ships them with the library itself.
//
// Tornado's are run all, of Twisted's those that move bytes. (Not whole packages: as root one of the
// others, test_logfile, takes the right to write to /dev/null from everybody.)

import { describe } from "bun:test";
import { join } from "node:path";
import { endsTheSame, findPython } from "./same.ts";

const TORNADO = ["tornado.test.runtests.all"];
const INTERNET = ["tcp", "udp", "unix", "tls", "endpoints", "stdio", "socket", "core", "fdset",
  "threads", "inotify", "newtls", "asyncioreactor", "posixprocess"];
const CLASSIC = ["tcp", "udp", "unix", "ssl", "process", "internet", "stdio", "socks"];
const WEB = ["webclient", "xmlrpc", "wsgi", "distrib", "cgi", "proxy", "static", "http"];
const of = (folder: string, names: readonly string[]) =>
  names.map((name) => `${folder}.test_${name}`);
const GROUPS = [
  { name: "Tornado", modules: TORNADO },
  { name: "Twisted's twisted.internet", modules: of("twisted.internet.test", INTERNET) },
  { name: "Twisted's twisted.test", modules: of("twisted.test", CLASSIC) },
  { name: "Twisted's twisted.web", modules: of("twisted.web.test", WEB) },
];

const python = findPython("import tornado.test.runtests, twisted.internet.test, twisted.web.test");

describe.concurrent("servers' own tests", () => {
  for (const { name, modules } of GROUPS) {
    endsTheSame(python === false ? "needs Tornado's and Twisted's tests" : null, {
      name,
      timeoutMs: 280_000,
      command: (report, _folder, only) => [
        python as string, join(import.meta.dir, "outcomes.py"), report,
        name === "Tornado" ? "tornado" : "twisted", ...modules, "--only", ...only,
      ],
    });
  }
});
