// A process that writes a log until it is killed, for log-gzip.test.ts:
//     bun log-writer.ts PATH LINES_PER_SYNC FIRST_PID
// Prints, after each sync, how many lines it has written by then.

import { Log } from "../../src/output/log.ts";
import { encodeName } from "../../src/output/name.ts";

const [path, perSync, pid] = process.argv.slice(2);
const log = Log.open(path!, {
  baseSec: 1732345678,
  onError: (message) => {
    console.error(message);
    process.exit(1);
  },
});
const name = encodeName("out:443");
let line = 0;
// Bounded, so that nothing stays behind if the test that should kill it is gone.
const deadline = Date.now() + 30_000;
while (Date.now() < deadline) {
  for (let i = 0; i < Number(perSync); i++) {
    const start = line * 1000 + (Math.imul(line, 2654435761) >>> 22);
    const end = start + (Math.imul(line, 40503) >>> 8);
    log.call(0, start, end, end, 0, 1448, line, Number(pid), 5, 1, 2, 443, name);
    line++;
  }
  log.sync();
  process.stdout.write(`${line}\n`);
  await Bun.sleep(0);
}
