import { expect, test } from "vitest";
import { Server, Stage } from "./stage";

test("a whole conversation with the keyboard alone", async () => {
  const server = await Server.start(["--demo-pace-ms", "60"]);
  await server.ask("POST", "api/chat/profiles", {
    slug: "poet",
    display_name: "Poet",
    description: "Answers in verse.",
  });
  const stage = await Stage.open(server);
  const { page } = stage;
  const { keyboard } = page;
  const focused = () =>
    page.evaluate(
      () => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent ?? "",
    );

  // The field has the focus; the picker is the next thing that one reaches.
  await expect.poll(focused).toBe("Prompt");
  await keyboard.press("Tab");
  expect(await focused()).toMatch(/^Profile/);
  await keyboard.press("Enter");
  await expect.poll(focused).toBe("Search profiles");
  await keyboard.type("verse");
  await keyboard.press("Enter");
  await page.getByRole("button", { name: /Poet/ }).waitFor();
  // Whoever has picked goes on to ask.
  await expect.poll(focused).toBe("Prompt");
  await keyboard.type("First line");
  await keyboard.press("Shift+Enter");
  await keyboard.type("second line");
  await keyboard.press("Enter");
  await page.getByRole("article").waitFor();
  // Escape stops it.
  await page.getByRole("textbox", { name: "Prompt" }).waitFor();
  await keyboard.press("Escape");
  await page.getByRole("button", { name: "Send" }).waitFor();
  expect(await page.locator(".prompt-text").innerText()).toBe("First line\nsecond line");
  // Up edits what was asked last; Escape leaves it.
  await keyboard.press("ArrowUp");
  await page.getByText("takes the place of your last one").waitFor();
  const written = () => page.getByRole("textbox", { name: "Prompt" }).inputValue();
  await expect.poll(written).toBe("First line\nsecond line");
  await keyboard.press("Escape");
  await expect.poll(written).toBe("");
  // The search is a key away, from anywhere.
  await keyboard.press("Control+k");
  await expect.poll(focused).toBe("Search conversations");
  // And the work is one away from the top of the page.
  await page.reload();
  await page.getByRole("article").waitFor();
  await page.getByRole("button", { name: "Skip to the work" }).focus();
  await keyboard.press("Enter");
  expect(await page.evaluate(() => document.activeElement?.id)).toBe("work");
  await stage.close();
  await server.stop();
});

test("a profile is made with the keyboard alone", async () => {
  const server = await Server.start(["--demo-pace-ms", "1"]);
  const stage = await Stage.open(server);
  const { page } = stage;
  const { keyboard } = page;
  const tabTo = async (name: RegExp) => {
    for (let press = 0; press < 60; press++) {
      await keyboard.press("Tab");
      const seen = await page.evaluate(() => {
        let at = document.activeElement;
        while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
        const labels = at instanceof HTMLInputElement || at instanceof HTMLTextAreaElement ? (at.labels ?? []) : [];
        return [at?.getAttribute("aria-label"), ...[...labels].map((label) => label.textContent), at?.textContent].join(
          " | ",
        );
      });
      if (name.test(seen)) return;
    }
    throw new Error(`nothing with the name ${name} can be reached`);
  };
  await page.goto(`${server.url}new-profile`);
  await page.getByRole("textbox", { name: "System prompt" }).waitFor();
  await tabTo(/Name/);
  await keyboard.type("By keys");
  await tabTo(/System prompt/);
  await keyboard.type("You were typed.");
  await page.getByText("Valid", { exact: true }).waitFor();
  await tabTo(/Create/);
  await keyboard.press("Enter");
  await page.getByRole("dialog", { name: "Review" }).waitFor();
  await tabTo(/Create/);
  await keyboard.press("Enter");
  await page.getByText("create by web-chat").waitFor();
  const stored = (await server.ask("GET", "api/chat/profiles/by-keys")) as { runtime: { system_prompt: string } };
  expect(stored.runtime.system_prompt).toBe("You were typed.");
  await stage.close();
  await server.stop();
});
