// A server of its own and a page in Debian's Chromium, which is watched: a test ends with no error on the console, no
// request that was blocked by the policy, and nothing asked of other hosts.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { expect } from "vitest";

const BINARY = process.env.COLLODI_BINARY ?? "../target/debug/collodi";
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

export class Server {
  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    private readonly args: string[],
    /** With the prefix and a slash at its end. */
    readonly url: string,
  ) {}

  static start(args: string[] = []): Promise<Server> {
    return Server.startIn(mkdtempSync(join(tmpdir(), "collodi-e2e-")), args);
  }

  private static async startIn(folder: string, args: string[]): Promise<Server> {
    const child = spawn(
      BINARY,
      [
        "serve",
        "--config-file",
        "/dev/null",
        "--data-dir",
        join(folder, "data"),
        ...(args.includes("--addr") ? args : ["--addr", "127.0.0.1:0", ...args]),
      ],
      { env: { PATH: process.env.PATH ?? "" }, stdio: ["ignore", "ignore", "pipe"] },
    );
    const url = await new Promise<string>((resolve, reject) => {
      let said = "";
      createInterface({ input: child.stderr as NodeJS.ReadableStream }).on("line", (line) => {
        said += `${line}\n`;
        const found = line.match(/serves (http:\S+)/)?.[1];
        if (found) resolve(found);
      });
      child.on("exit", () => reject(new Error(`the server ended: ${said}`)));
    });
    return new Server(child, folder, args, url);
  }

  /** Asks the API beside the page. */
  async ask(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await fetch(this.url + path, {
      method,
      headers: { "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** As if the machine had lost power for a moment. */
  async killedAndStarted(): Promise<Server> {
    await this.ended("SIGKILL");
    return Server.startIn(this.folder, this.args);
  }

  private async ended(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const ended = new Promise((resolve) => this.child.on("exit", resolve));
    this.child.kill(signal);
    await ended;
  }

  async stop(): Promise<void> {
    await this.ended("SIGTERM");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export class Stage {
  readonly complaints: string[] = [];

  private constructor(
    private readonly browser: Browser,
    readonly page: Page,
  ) {}

  static async open(server: Server, options: BrowserContextOptions = {}): Promise<Stage> {
    const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    const stage = new Stage(browser, page);
    page.on("console", (message) => {
      // That a draft was refused is what the editor asked; the browser notes every refusal.
      if (/status of (400|409)/.test(message.text())) return;
      if (message.type() === "error" || message.type() === "warning") stage.complaints.push(message.text());
    });
    page.on("pageerror", (error) => stage.complaints.push(String(error)));
    page.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      const own = origin === new URL(server.url).origin || protocol === "blob:" || protocol === "data:";
      if (!own) stage.complaints.push(`asked ${request.url()}`);
    });
    await page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        console.error(`blocked by the policy: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    await page.goto(server.url);
    return stage;
  }

  /** Writes a prompt and sends it. */
  async send(text: string): Promise<void> {
    await this.page.getByRole("textbox", { name: "Prompt" }).fill(text);
    await this.page.keyboard.press("Enter");
  }

  /** Closes the page; it must have been content. */
  async close(): Promise<void> {
    await this.browser.close();
    expect(this.complaints).toEqual([]);
  }
}
