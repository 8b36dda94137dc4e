import AxeBuilder from "@axe-core/playwright";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Server, Stage } from "./stage";

let server: Server;

beforeAll(async () => {
  server = await Server.start(["--demo-pace-ms", "1"]);
});
afterAll(() => server.stop());

/** Opens the editor of a profile; what one types before all of it is there could go to what stands in its place. */
async function edit(page: Page, slug: string): Promise<void> {
  await page.goto(`${server.url}p/${slug}`);
  await page.locator(".cm-content").first().waitFor();
}

test("a profile with a middleware is made, an error is seen at its field, mended, saved, and chatted with", async () => {
  const stage = await Stage.open(server);
  const { page } = stage;
  await page.getByRole("link", { name: "Profiles" }).click();
  await page.getByRole("link", { name: "New" }).click();
  await page.getByRole("textbox", { name: "Name" }).fill("Weekly Analyst");
  expect(await page.getByRole("textbox", { name: "Slug" }).inputValue()).toBe("weekly-analyst");
  await page.getByRole("textbox", { name: "System prompt" }).fill("You read numbers.");
  await page.getByRole("combobox", { name: "Middleware to add" }).selectOption("sqlite");
  await page.getByRole("button", { name: "Add a middleware" }).click();
  const rows = page.getByRole("textbox", { name: "max_rows" });
  await rows.fill("-5");
  await page.getByText("1 problem").waitFor();
  expect(await rows.getAttribute("aria-invalid")).toBe("true");
  await page.locator(".use .complaint").waitFor();
  await page.getByRole("button", { name: "Show the first" }).click();
  expect(await page.evaluate(() => document.activeElement?.getAttribute("aria-invalid"))).toBe("true");
  await rows.fill("50");
  await page.getByText("Valid", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByRole("dialog").getByRole("textbox").fill("for the weekly numbers");
  await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
  await page.getByText("create by web-chat: for the weekly numbers").waitFor();
  const stored = (await server.ask("GET", "api/chat/profiles/weekly-analyst")) as { extensions: unknown };
  expect(JSON.stringify(stored.extensions)).toContain('"max_rows":50');

  await page.getByRole("link", { name: "Chat" }).click();
  await page.getByRole("button", { name: /^Profile/ }).click();
  await page.getByRole("option", { name: /Weekly Analyst/ }).click();
  await stage.send("Hello");
  await page.getByText("Weekly Analyst v1").waitFor();
  await page.getByText(/You read numbers/).waitFor();
  await stage.close();
});

test("a change is reviewed as a difference, saved, and taken back from the history", async () => {
  await server.ask("POST", "api/chat/profiles", { slug: "edited", runtime: { system_prompt: "One.\nTwo.\n" } });
  const stage = await Stage.open(server);
  const { page } = stage;
  await edit(page, "edited");
  await page.getByText("No changes").waitFor();
  await page.getByRole("textbox", { name: "System prompt" }).fill("One.\nThree.\n");
  await page.getByText("1 change, valid").waitFor();
  await page.getByRole("button", { name: "Review and save" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("runtime.system_prompt").waitFor();
  expect(await dialog.locator("mark").allInnerTexts()).toEqual(["Two.", "Three."]);
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("v2", { exact: false }).first().waitFor();
  await page.getByRole("button", { name: "Go back to it" }).click();
  await page.getByRole("button", { name: "Restore v1" }).click();
  await page.getByText("restore by web-chat").waitFor();
  await expect
    .poll(() => page.getByRole("textbox", { name: "System prompt" }).locator(".cm-line").allInnerTexts())
    .toEqual(["One.", "Two.", "\n"]);
  await stage.close();
});

test("of two who edit at once the later one sees both changes, and chooses where they meet", async () => {
  await server.ask("POST", "api/chat/profiles", {
    slug: "shared",
    display_name: "Shared",
    runtime: { system_prompt: "Old." },
  });
  const stage = await Stage.open(server);
  const { page } = stage;
  await edit(page, "shared");
  await page.getByRole("textbox", { name: "System prompt" }).fill("Mine.");
  await page.getByText("1 change, valid").waitFor();
  await server.ask("PATCH", "api/chat/profiles/shared", {
    description: "Theirs.",
    runtime: { system_prompt: "Theirs." },
  });
  await page.getByRole("button", { name: "Review and save" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByRole("region", { name: "Changed on both sides" }).waitFor();
  expect(await page.getByRole("textbox", { name: "Description" }).inputValue()).toBe("Theirs.");
  await page.getByRole("button", { name: "Keep mine" }).click();
  await page.getByText("1 change, valid").waitFor();
  await page.getByRole("button", { name: "Review and save" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByText("No changes").waitFor();
  const stored = (await server.ask("GET", "api/chat/profiles/shared")) as {
    description: string;
    runtime: { system_prompt: string };
  };
  expect([stored.description, stored.runtime.system_prompt]).toEqual(["Theirs.", "Mine."]);
  await stage.close();
});

test("what others store is seen before one saves, and one that was deleted comes back", async () => {
  await server.ask("POST", "api/chat/profiles", { slug: "seen", runtime: { system_prompt: "Old." } });
  const stage = await Stage.open(server);
  const { page } = stage;
  await edit(page, "seen");
  await page.getByText("No changes").waitFor();
  await server.ask("PATCH", "api/chat/profiles/seen", { display_name: "Theirs" });
  await page.getByRole("textbox", { name: "Description" }).fill("Mine.");
  await page.getByText("Version 2 was stored by web-chat meanwhile").waitFor();
  expect(await page.getByRole("textbox", { name: "Name" }).inputValue()).toBe("Theirs");
  expect(await page.getByRole("textbox", { name: "Description" }).inputValue()).toBe("Mine.");
  await page.getByText("1 change, valid").waitFor();
  await page.getByRole("button", { name: "Review and save" }).click();
  const dialog = page.getByRole("dialog", { name: "Review" });
  expect(await dialog.locator(".diff li").count()).toBe(1);
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("No changes").waitFor();

  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText(/“seen” was deleted .* by web-chat/).waitFor();
  await page.getByRole("button", { name: "Restore v3" }).click();
  await page.getByRole("textbox", { name: "Description" }).waitFor();
  expect(await page.getByRole("textbox", { name: "Description" }).inputValue()).toBe("Mine.");
  await page.getByRole("link", { name: /Theirs/ }).waitFor();
  await stage.close();
});

test("a file is looked at before it is applied, and what is wrong with it is told", async () => {
  const stage = await Stage.open(server);
  const { page } = stage;
  await page.goto(`${server.url}p`);
  const choose = async (text: string) => {
    const chooser = page.waitForEvent("filechooser");
    await page.getByRole("button", { name: "Import" }).click();
    await (await chooser).setFiles({ name: "team.yaml", mimeType: "application/yaml", buffer: Buffer.from(text) });
  };
  const dialog = page.getByRole("dialog", { name: "Import" });
  await choose("slug: default\ndefault_profile_slug: filed\nprofiles: {filed: {runtime: {tools: [nope]}}}\n");
  await dialog.getByText('registries[default].profiles[filed].runtime.tools[0]: unknown tool "nope"').waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await choose(
    "slug: default\ndefault_profile_slug: default\nprofiles: {default: {display_name: Plain}, filed: {display_name: Filed}}\n",
  );
  await dialog.getByText("create filed").waitFor();
  await dialog.getByRole("button", { name: "Apply" }).click();
  await page.getByRole("link", { name: /Filed/ }).waitFor();
  const saved = page.waitForEvent("download");
  await page.getByRole("link", { name: "Export" }).click();
  expect((await saved).suggestedFilename()).toBe("profiles.yaml");
  await stage.close();
});

test("a draft is tried beside the editor, and nothing of it is stored", async () => {
  await server.ask("POST", "api/chat/profiles", { slug: "tried", runtime: { system_prompt: "Stored." } });
  const stage = await Stage.open(server);
  const { page } = stage;
  await edit(page, "tried");
  await page.getByText("No changes").waitFor();
  await page.getByRole("textbox", { name: "System prompt" }).fill("Only written.");
  await page.getByText("1 change, valid").waitFor();
  await page.getByRole("button", { name: "Try it" }).click();
  const pane = page.getByRole("complementary", { name: "Try it" });
  await pane.getByRole("textbox").fill("Who are you?");
  await page.keyboard.press("Enter");
  await pane.getByRole("article").getByText("tried as written").waitFor();
  await pane.getByText(/Only written\./).waitFor();
  // What is wrong with it is said there too.
  await page.getByRole("button", { name: "Add a middleware" }).click();
  await page.getByRole("combobox", { name: "Middleware to add" }).selectOption("sqlite");
  await page.getByRole("button", { name: "Add a middleware" }).click();
  await page.getByRole("textbox", { name: "max_rows" }).fill("-1");
  await pane.getByRole("textbox").fill("And now?");
  await page.keyboard.press("Enter");
  await pane
    .getByRole("alert")
    .getByText(/not valid yet: .*max_rows/)
    .waitFor();
  // A reload leaves nothing behind either, once one tries again.
  page.on("dialog", (dialog) => void dialog.accept());
  await page.reload();
  await page.getByRole("button", { name: "Try it" }).click();
  await expect.poll(() => server.ask("GET", "api/chat/conversations?q=Who")).toEqual([]);
  await pane.getByRole("textbox").fill("Who is there?");
  await page.keyboard.press("Enter");
  await pane.getByText(/Stored\./).waitFor();
  await pane.getByRole("button", { name: "Close the try" }).click();
  await expect.poll(() => server.ask("GET", "api/chat/conversations?q=Who")).toEqual([]);
  const stored = (await server.ask("GET", "api/chat/profiles/tried")) as { runtime: { system_prompt: string } };
  expect(stored.runtime.system_prompt).toBe("Stored.");
  // What the page forgot as it was left is not there to be forgotten again, which the browser notes.
  stage.complaints.splice(0, stage.complaints.length, ...stage.complaints.filter((text) => !text.includes("404")));
  await stage.close();
});

test("a profile is copied, found by its tag, and its suggestions have a form", async () => {
  await server.ask("POST", "api/chat/profiles", {
    slug: "pattern",
    display_name: "Pattern",
    metadata: { tags: ["finance"] },
    policy: { read_only: true },
    runtime: { system_prompt: "Copy me." },
  });
  const stage = await Stage.open(server);
  const { page } = stage;
  await page.goto(`${server.url}p`);
  await page.getByRole("combobox", { name: "Tag" }).selectOption("finance");
  const listed = page.getByRole("complementary", { name: "Profiles" }).getByRole("link");
  await expect.poll(() => listed.filter({ hasText: "v1" }).count()).toBe(1);
  await listed.filter({ hasText: "read-only" }).click();
  await page.getByRole("link", { name: "Duplicate" }).click();
  await page
    .getByRole("heading", { name: "Pattern copy" })
    .or(page.getByRole("textbox", { name: "Name" }))
    .first()
    .waitFor();
  expect(await page.getByRole("textbox", { name: "Slug" }).inputValue()).toBe("pattern-copy");
  await page.getByRole("combobox", { name: "Key of an extension" }).fill("webchat.starter_suggestions@v1");
  await page.getByRole("button", { name: "Add an extension" }).click();
  await page.getByRole("textbox", { name: /^items/ }).fill("First idea\nSecond idea");
  await page.getByText("Valid", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
  await page.getByText("create by web-chat").waitFor();
  const stored = (await server.ask("GET", "api/chat/profiles/pattern-copy")) as Record<string, unknown>;
  expect(stored).toMatchObject({
    policy: { read_only: false },
    extensions: { "webchat.starter_suggestions@v1": { items: ["First idea", "Second idea"] } },
    metadata: { tags: ["finance"] },
  });
  await stage.close();
});

test("what a first user stumbled over", async () => {
  const stage = await Stage.open(server);
  const { page } = stage;
  await page.goto(`${server.url}new-profile`);
  await page.getByText("No changes").waitFor();
  // A tag counts while it is typed, a comma at its end included.
  await page.getByRole("textbox", { name: "Name" }).fill("New");
  await page.getByRole("textbox", { name: "Tags" }).pressSequentially("q3, weekly");
  await page.getByText("Valid", { exact: true }).waitFor();
  await page.getByRole("combobox", { name: "Middleware to add" }).selectOption("sqlite");
  await page.getByRole("button", { name: "Add a middleware" }).click();
  await page.getByRole("textbox", { name: "max_rows" }).fill("many");
  await page.getByText("must be an integer", { exact: true }).waitFor();
  await page.getByRole("textbox", { name: "max_rows" }).fill("-5");
  await page.getByText("-5 is less than the minimum of 1", { exact: true }).waitFor();
  await page.getByRole("textbox", { name: "max_rows" }).fill("5");
  await page.getByText("Valid", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Create" }).click();
  // Enter is enough.
  await page.getByRole("dialog").getByRole("textbox").fill("first");
  await page.keyboard.press("Enter");
  await page.getByText("create by web-chat: first").waitFor();
  // A profile of that name has its own address.
  expect(new URL(page.url()).pathname).toBe("/p/new");
  const stored = (await server.ask("GET", "api/chat/profiles/new")) as { metadata: { tags: string[] } };
  expect(stored.metadata.tags).toEqual(["q3", "weekly"]);
  // The last profile with a tag goes, and the filter with it.
  await page.getByRole("combobox", { name: "Tag" }).selectOption("q3");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("link", { name: /agent/ }).waitFor();
  // Whoever picked a profile goes on to ask.
  await page.getByRole("link", { name: "Chat" }).click();
  await page.getByRole("button", { name: /^Profile/ }).click();
  await page.getByRole("option", { name: /agent/ }).click();
  await expect.poll(() => page.evaluate(() => document.activeElement?.getAttribute("aria-label"))).toBe("Prompt");
  await stage.close();
});

test("nobody is kept out of the editor, and it fits", async () => {
  for (const [width, colorScheme] of [
    [1280, "light"],
    [1280, "dark"],
    [360, "light"],
  ] as const) {
    const stage = await Stage.open(server, { viewport: { width, height: 800 }, colorScheme });
    await stage.page.goto(`${server.url}p/agent`);
    await stage.page.getByText("No changes").waitFor();
    const found = await new AxeBuilder({ page: stage.page }).analyze();
    const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    expect(serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`)).toEqual([]);
    const overflow = await stage.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    expect(overflow).toBeLessThanOrEqual(0);
    await stage.close();
  }
});
