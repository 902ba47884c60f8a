// What the service does, measured or not: it sends as many bytes as it is asked for, and counts
// those that it is sent.

const LARGEST_BYTES = 64 * 2 ** 20;

export async function handle(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  const asked = /^\/bytes\/(\d+)$/.exec(pathname);
  if (asked !== null) {
    return new Response(new Uint8Array(Math.min(Number(asked[1]), LARGEST_BYTES)));
  }
  if (pathname === "/upload" && request.method === "POST") {
    const { byteLength } = await request.arrayBuffer();
    return new Response(`${byteLength} bytes\n`);
  }
  return new Response("GET /bytes/N, POST /upload\n", { status: 404 });
}
