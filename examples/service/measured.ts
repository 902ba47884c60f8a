// The service, measuring itself:
//
//     sudo LD_PRELOAD=…/libkqtime-preload.so bun measured.ts
//
// It goes on without a measurement where none can be had, and says why.

import { KQTime, KQTimeError } from "kqtime";
import { handle } from "./service.ts";

const server = Bun.serve({ port: Number(process.env["PORT"] ?? 8080), fetch: handle });
const kq = await measure();

// What an operator asks, on a port of its own, which is not measured.
const admin = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env["ADMIN_PORT"] ?? 8081),
  routes: {
    "/kqtime": async () => {
      if (kq === null) return new Response("not measured\n", { status: 503 });
      return Response.json(await kq.snapshot());
    },
  },
});
console.log(`serving on port ${server.port}, figures on http://127.0.0.1:${admin.port}/kqtime`);

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, async () => {
    await server.stop();
    await admin.stop(true);
    await kq?.close();
  });
}

async function measure(): Promise<KQTime | null> {
  try {
    const opened = await KQTime.open({ log: process.env["KQTIME_LOG"] ?? "service.log.gz" });
    await opened.registerPort(server.port!, "http");
    return opened;
  } catch (error) {
    if (!(error instanceof KQTimeError)) throw error;
    console.error(`not measured: ${error.message}`);
    return null;
  }
}
