// A provider at the wire: speaks Chat Completions over SSE, and says what a test scripted.

import { createServer, type Server as HttpServer, type ServerResponse } from "node:http";

/** One answer: text in pieces, calls of tools, reasoning, or a refusal. */
export interface Script {
  text?: string[];
  reasoning?: string;
  call?: { name: string; arguments: unknown };
  refuse?: { status: number; message: string };
  /** Milliseconds between two pieces. */
  pace?: number;
  /** Or so many pieces at once, and a millisecond between. */
  burst?: number;
}

export class Provider {
  readonly asked: { messages: { role: string; content: unknown }[] }[] = [];
  private readonly scripts: Script[] = [];

  private constructor(
    private readonly server: HttpServer,
    readonly url: string,
  ) {}

  static async start(): Promise<Provider> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no address");
    const provider = new Provider(server, `http://127.0.0.1:${address.port}/v1`);
    server.on("request", (request, response) => {
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => {
        provider.asked.push(JSON.parse(body));
        void provider.answer(response);
      });
    });
    return provider;
  }

  /** What the next calls get, one each. */
  will(...scripts: Script[]): void {
    this.scripts.push(...scripts);
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private async answer(response: ServerResponse): Promise<void> {
    const script = this.scripts.shift() ?? { text: ["Nothing was scripted."] };
    if (script.refuse) {
      response.writeHead(script.refuse.status, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: { message: script.refuse.message } }));
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    const say = (delta: unknown, finish_reason: string | null = null) =>
      response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`);
    if (script.reasoning) say({ reasoning_content: script.reasoning });
    for (const [at, content] of (script.text ?? []).entries()) {
      say({ content });
      if (script.burst && at % script.burst === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      if (script.pace) await new Promise((resolve) => setTimeout(resolve, script.pace));
    }
    if (script.call) {
      const { name, arguments: input } = script.call;
      say({
        tool_calls: [
          { index: 0, id: "call_1", type: "function", function: { name, arguments: JSON.stringify(input) } },
        ],
      });
    }
    say({}, script.call ? "tool_calls" : "stop");
    response.end("data: [DONE]\n\n");
  }
}
