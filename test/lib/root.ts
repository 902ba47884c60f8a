// End-to-end tests need namespaces and captures. Where that is not allowed they are skipped, and
// one line says why.

export const asRoot = process.platform === "linux" && process.getuid?.() === 0;

if (!asRoot) {
  console.warn("skipped: the end-to-end tests make network namespaces and captures and need root");
}
