// The service without a word of kqtime:
//
//     sudo kqtime run --log service.log.gz -- bun server.ts

import { handle } from "./service.ts";

const server = Bun.serve({ port: Number(process.env["PORT"] ?? 8080), fetch: handle });
console.log(`serving on port ${server.port}`);
