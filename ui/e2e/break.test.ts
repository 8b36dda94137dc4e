import { connect, createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { Server, Stage } from "./stage";

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

test("a server that dies in the middle of an answer loses nothing that it stored, and the page goes on by itself", async () => {
  const at = ["--addr", `127.0.0.1:${await freePort()}`, "--demo-pace-ms", "300"];
  const server = await Server.start(at);
  const stage = await Stage.open(server);
  const { page } = stage;
  await stage.send("Tell me everything");
  const answer = page.getByRole("article").locator(".markdown");
  // What is on its way is stored every two seconds.
  await answer.getByText("configured").waitFor();
  const again = await server.killedAndStarted();
  await page.getByText(/The connection is down/).waitFor();
  await page.getByRole("button", { name: "Try now" }).click();
  await page
    .getByText(/interrupted/)
    .first()
    .waitFor();
  const text = await answer.innerText();
  expect(text.startsWith("This is the offline demo")).toBe(true);
  expect(text.match(/offline/g)?.length, "nothing is doubled").toBe(1);
  await page.getByRole("button", { name: "Send" }).waitFor();
  await stage.send("Go on");
  await page.getByRole("article").nth(1).waitFor();
  await page.reload();
  await page.getByRole("article").nth(1).waitFor();
  // A browser says by itself that it was not answered.
  stage.complaints.splice(0, stage.complaints.length, ...stage.complaints.filter((text) => !text.includes("ERR_")));
  await stage.close();
  await again.stop();
});

/** Between the page and its server; cuts every connection, and refuses for a while. */
class Front {
  private readonly sockets = new Set<Socket>();
  private refusing = false;

  private constructor(readonly port: number) {}

  static async before(url: string): Promise<{ front: Front; stop: () => void }> {
    const upstream = new URL(url);
    const listener = createServer((near) => {
      if (front.refusing) {
        near.destroy();
        return;
      }
      const far = connect(Number(upstream.port), upstream.hostname);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        front.sockets.add(one);
        one.on("close", () => {
          front.sockets.delete(one);
          other.destroy();
        });
        one.on("error", () => other.destroy());
        one.pipe(other);
      }
    });
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    const address = listener.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const front: Front = new Front(address.port);
    return { front, stop: () => listener.close() };
  }

  cut(refuse: boolean): void {
    this.refusing = refuse;
    for (const socket of this.sockets) socket.destroy();
  }
}

test("a proxy that cuts every connection in the middle of an answer loses and doubles no word of it", async () => {
  const server = await Server.start(["--demo-pace-ms", "120"]);
  const { front, stop } = await Front.before(server.url);
  const stage = await Stage.open(server);
  const { page } = stage;
  await page.goto(`http://127.0.0.1:${front.port}/`);
  stage.complaints.length = 0; // the other port is another host, and meant
  await stage.send("Tell me everything");
  const answer = page.getByRole("article").locator(".markdown");
  await answer.getByText("offline").waitFor();
  for (let time = 0; time < 3; time++) {
    const before = (await answer.innerText()).length;
    front.cut(time === 1);
    if (time === 1) {
      await page.getByText(/The connection is down/).waitFor();
      front.cut(false);
      await page.getByRole("button", { name: "Try now" }).click();
    }
    await expect.poll(async () => (await answer.innerText()).length).toBeGreaterThan(before);
  }
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  const seen = await answer.innerText();
  await page.reload();
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  expect(await answer.innerText()).toBe(seen);
  expect(seen).toMatch(/^This is the offline demo model; .* you said .Tell me everything.\.$/);
  stage.complaints.length = 0; // what was cut is said by the browser itself
  await stage.close();
  stop();
  await server.stop();
});
