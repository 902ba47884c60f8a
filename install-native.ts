// `bun run install-native --prefix DIR`, and of an installed package
// `bun node_modules/kqtime/install-native.ts --prefix DIR`: a file in the root, like kqtime.ts, so that Bun prints
// nothing of its own when it fails.

import { main } from "./tools/install-native.ts";

process.exitCode = main(process.argv.slice(2));
