// Pictures of the main screens, light and dark, wide and narrow: `npm run shots`, then look at ui/shots.

import { mkdirSync } from "node:fs";
import { test } from "vitest";
import { Server, Stage } from "./stage";

const SIZES = { wide: 1440, middle: 768, narrow: 360 };

test("pictures", async () => {
  const server = await Server.start(["--demo-pace-ms", "5", "--debug-api"]);
  await server.ask("POST", "api/chat/profiles", {
    slug: "analyst",
    display_name: "Analyst with a name that is rather long",
    description: "Reads the weekly numbers and says what changed, in a few sentences.",
    extensions: { "webchat.starter_suggestions@v1": { items: ["What changed this week?", "Which region grew?"] } },
  });
  await server.ask("POST", "api/chat/profiles/analyst/default");
  mkdirSync("shots", { recursive: true });
  for (const [size, width] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"] as const) {
      const stage = await Stage.open(server, { viewport: { width, height: 900 }, colorScheme });
      const { page } = stage;
      const shot = (name: string) => page.screenshot({ path: `shots/${name}-${size}-${colorScheme}.png` });
      await page.getByRole("button", { name: "Which region grew?" }).waitFor();
      await shot("new");
      await stage.send("What changed this week? Please look at every region, and say where the numbers come from.");
      await page.getByRole("button", { name: "Ask again" }).waitFor();
      await page.getByRole("button", { name: /^Profile/ }).click();
      await page.getByRole("option").first().waitFor();
      await shot("picker");
      await page.getByRole("option", { name: /agent/ }).click();
      await stage.send("And as an agent?");
      await page.getByText(/Profile changed/).waitFor();
      await page.getByRole("button", { name: "Ask again" }).waitFor();
      await shot("thread");
      page.on("dialog", (dialog) => void dialog.accept());
      await page.goto(`${server.url}p`);
      await page.getByRole("link", { name: /Analyst/ }).waitFor();
      await shot("profiles");
      await page.goto(`${server.url}p/analyst`);
      await page.getByText("No changes").waitFor();
      await page.getByRole("textbox", { name: "System prompt" }).fill("You read numbers.\nYou say what changed.");
      await page.getByRole("button", { name: "Add a middleware" }).click();
      await page.getByText(/changes, valid/).waitFor();
      await shot("editor");
      await page.getByRole("button", { name: "Review and save" }).click();
      await page.getByRole("dialog").getByText("runtime.system_prompt").waitFor();
      await shot("review");
      await page.getByRole("button", { name: "Back" }).click();
      await page.getByRole("button", { name: "Try it" }).click();
      const pane = page.getByRole("complementary", { name: "Try it" });
      await pane.getByRole("textbox").fill("What do you read?");
      await page.keyboard.press("Enter");
      await pane.getByText("You say what changed").waitFor();
      await shot("try");
      await page.goto(`${server.url}i`);
      await page
        .getByRole("link", { name: /What changed this week/ })
        .first()
        .click();
      await page.getByRole("region", { name: "What it ran under" }).waitFor();
      await shot("inspector");
      await page.goto(`${page.url()}?view=events`);
      await page.locator(".event-type").first().waitFor();
      await shot("events");
      await page.goto(`${server.url}ops`);
      await page.getByText("Ready: both databases answer").waitFor();
      await shot("status-top");
      await page.getByRole("button", { name: "Run the checks" }).click();
      await page.getByText("Go: every check holds").waitFor();
      await page.getByRole("button", { name: "Take a snapshot" }).click();
      await page
        .getByText(/snapshot-/)
        .first()
        .waitFor();
      await page.screenshot({ path: `shots/status-${size}-${colorScheme}.png`, fullPage: true });
      await stage.close();
    }
  }
  await server.stop();
}, 300_000);
