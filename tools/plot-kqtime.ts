// The ancestor's plotter, under its name: samples (or a log) on standard input, kqtimes.pdf in the
// folder where it is started.
//
//     xzcat kqtime.dat.xz | bun tools/plot-kqtime.ts

import { main } from "../src/cli/main.ts";

process.exitCode = await main(["plot", ...process.argv.slice(2)]);
