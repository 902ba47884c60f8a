// The ancestor's parser, under its name: a log on standard input, samples on standard output.
//
//     xzcat kqtime.log.xz | bun tools/parse-kqtime.ts | xz -T 6 > kqtime.dat.xz

import { main } from "../src/cli/main.ts";

process.exitCode = await main(["parse", ...process.argv.slice(2)]);
