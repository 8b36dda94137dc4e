// A live conversation: hydrate, replay, follow, and come back after a break without a lost or doubled word.

import { askJson, BASE, Refusal } from "../api";
import { applied, type Conversation, EMPTY, type Frame, hydrated } from "./frames";

/** How the copy stands to the server. */
export type Link =
  | { state: "connecting" }
  | { state: "live" }
  /** `at` is when the next try begins, in milliseconds of `performance.now()`. */
  | { state: "broken"; at: number };

export interface Live {
  conversation: Conversation;
  link: Link;
  /** Whether the conversation was read once. */
  ready: boolean;
}

/** Milliseconds before the n-th try, and at most. */
const FIRST_TRY = 500;
const LONGEST = 15_000;
/** A socket that says nothing for so long is asked whether it is there. */
const QUIET = 30_000;

type Listener = () => void;

export class LiveConversation {
  private live: Live = { conversation: EMPTY, link: { state: "connecting" }, ready: false };
  private readonly listeners = new Set<Listener>();
  private socket: WebSocket | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private tries = 0;
  /** Frames that came since the last picture. */
  private arrived: Frame[] = [];
  /** Frames that came before the snapshot. */
  private kept: Frame[] | null = null;
  private closed = false;
  private painting = false;

  constructor(readonly convId: string) {
    window.addEventListener("online", this.retryNow);
    this.open();
  }

  readonly subscribe = (listener: Listener): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): Live => this.live;

  /** Does not wait for the next try. */
  readonly retryNow = (): void => {
    if (this.live.link.state !== "broken") return;
    clearTimeout(this.timer);
    this.open();
  };

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    window.removeEventListener("online", this.retryNow);
    this.socket?.close();
  }

  private set(change: Partial<Live>): void {
    this.live = { ...this.live, ...change };
    // Many frames come between two pictures; people see pictures.
    if (this.painting) return;
    this.painting = true;
    const paint = () => {
      this.painting = false;
      this.takeIn();
      for (const listener of this.listeners) listener();
    };
    if (document.visibilityState === "visible") requestAnimationFrame(paint);
    else setTimeout(paint, 100);
  }

  private open(): void {
    this.takeIn();
    const { seq } = this.live.conversation;
    const parameters = new URLSearchParams({ conv_id: this.convId, deltas: "incremental" });
    if (this.live.ready && seq > 0) parameters.set("since_seq", String(seq));
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${BASE}ws?${parameters}`);
    this.socket = socket;
    this.set({ link: { state: "connecting" } });
    let quiet: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(quiet);
      quiet = setTimeout(() => socket.send("ping"), QUIET);
    };
    socket.onopen = () => {
      heard();
      if (this.live.ready) this.isLive();
      else void this.hydrate(socket);
    };
    socket.onmessage = (message) => {
      heard();
      this.take(socket, JSON.parse(message.data as string) as { event: Frame });
    };
    socket.onclose = () => {
      clearTimeout(quiet);
      if (socket === this.socket && !this.closed) this.wait();
    };
  }

  private isLive(): void {
    this.tries = 0;
    this.set({ link: { state: "live" } });
  }

  private take(socket: WebSocket, { event }: { event: Frame }): void {
    if (socket !== this.socket) return;
    if (event.type === "ws.resync") void this.hydrate(socket);
    else if (this.kept) this.kept.push(event);
    else if (event.seq !== undefined) {
      this.arrived.push(event);
      this.set({});
    }
  }

  /** Takes what has arrived into the copy, at once: deltas come faster than pictures. */
  private takeIn(): void {
    if (this.arrived.length === 0) return;
    const conversation = applied(this.live.conversation, this.arrived);
    this.arrived = [];
    this.live = { ...this.live, conversation };
  }

  private async hydrate(socket: WebSocket): Promise<void> {
    this.kept ??= [];
    try {
      const snapshot = await askJson<Parameters<typeof hydrated>[0]>(
        `api/timeline?conv_id=${encodeURIComponent(this.convId)}`,
      );
      if (socket !== this.socket) return;
      const conversation = applied(hydrated(snapshot), this.kept ?? []);
      this.arrived = [];
      this.kept = null;
      this.set({ conversation, ready: true });
      this.isLive();
    } catch (error) {
      if (socket !== this.socket) return;
      this.kept = null;
      if (!(error instanceof Refusal)) throw error;
      socket.close();
    }
  }

  private wait(): void {
    this.kept = null;
    const pause = Math.min(LONGEST, FIRST_TRY * 2 ** this.tries) * (0.75 + Math.random() / 2);
    this.tries += 1;
    this.set({ link: { state: "broken", at: performance.now() + pause } });
    this.timer = setTimeout(() => this.open(), pause);
  }
}
