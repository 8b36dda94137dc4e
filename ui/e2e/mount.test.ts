import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { Server, Stage } from "./stage";

test("below a prefix everything is below it", async () => {
  const server = await Server.start(["--root", "/team/chat", "--demo-pace-ms", "1"]);
  try {
    expect(server.url.endsWith("/team/chat/")).toBe(true);
    const stage = await Stage.open(server);
    await stage.send("Hello");
    await stage.page.getByRole("button", { name: "Ask again" }).waitFor();
    expect(new URL(stage.page.url()).pathname).toMatch(/^\/team\/chat\/c\//);
    await stage.page.reload();
    await stage.page.getByRole("button", { name: "Ask again" }).waitFor();
    await stage.close();
  } finally {
    await server.stop();
  }
});

test("the first load is at most 250 KB", async () => {
  const names = readdirSync("dist/assets").map((name) => `dist/assets/${name}`);
  const sizes = ["dist/index.html", ...names].map((name) => gzipSync(readFileSync(name)).length);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(250_000);
});
