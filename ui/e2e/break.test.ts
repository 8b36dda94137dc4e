import { createServer } from "node:net";
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
