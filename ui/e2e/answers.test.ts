import { afterAll, beforeAll, expect, test } from "vitest";
import { Provider } from "./provider";
import { Server, Stage } from "./stage";

let provider: Provider;
let server: Server;

beforeAll(async () => {
  provider = await Provider.start();
  server = await Server.start(["--openai-base-url", provider.url, "--ai-engine", "scripted"]);
});
afterAll(async () => {
  await server.stop();
  provider.stop();
});

test("a tool call is one line that opens, thinking folds, and code can be copied", async () => {
  provider.will(
    { reasoning: "I should add.", text: ["Let me add."], call: { name: "calc", arguments: { a: 2, b: 3, op: "add" } } },
    { text: ["It is **5**.\n\n", "```js\n", "2 + 3\n", "```\n"] },
  );
  const stage = await Stage.open(server);
  const { page } = stage;
  await stage.send("What is 2 + 3?");
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  const tool = page.locator(".tool");
  await tool.getByText("done").waitFor();
  await tool.locator("summary").click();
  await tool.getByText('"result": 5').waitFor();
  await page.getByText(/^Thought/).click();
  await page.getByText("I should add.").waitFor();
  expect(await page.locator("article strong").innerText()).toBe("5");
  await page.getByRole("button", { name: "Copy the code" }).waitFor();
  expect(await page.locator("pre code").last().innerText()).toContain("2 + 3");
  await page.reload();
  await tool.getByText("done").waitFor();
  await stage.close();
});

test("a refusal of the provider is a line with its reason, and a retry asks again", async () => {
  provider.will({ refuse: { status: 400, message: "the model is not for you" } }, { text: ["Now it works."] });
  const stage = await Stage.open(server);
  const { page } = stage;
  await stage.send("Please");
  await page.getByText(/the model is not for you/).waitFor();
  await page.getByRole("button", { name: "Retry" }).click();
  await page.getByText("Now it works.").waitFor();
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  const last = provider.asked.at(-1)?.messages.filter(({ role }) => role === "user");
  expect(last?.length, "what failed is not said twice").toBe(1);
  await stage.close();
});

test("text appears while it comes, the view follows only at the end, and a stop keeps what was said", async () => {
  const lines = Array.from({ length: 400 }, (_, n) => `Line ${n} of a long answer.\n\n`);
  provider.will({ text: lines, pace: 15 });
  const stage = await Stage.open(server);
  const { page } = stage;
  await stage.send("Tell me a lot");
  await page.getByText("Line 40 of").waitFor();
  const atEnd = () => page.locator(".scroll").evaluate((of) => of.scrollHeight - of.scrollTop - of.clientHeight < 60);
  expect(await atEnd()).toBe(true);
  await page.locator(".scroll").hover();
  await page.mouse.wheel(0, -2000);
  await page.getByRole("button", { name: "New text below" }).waitFor();
  await page.getByRole("button", { name: "New text below" }).click();
  expect(await atEnd()).toBe(true);
  await page.getByRole("textbox", { name: "Prompt" }).focus();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Send" }).waitFor();
  await page.getByText("Line 40 of").waitFor();
  await stage.close();
});
