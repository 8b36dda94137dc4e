// One object: who answers, what is asked, and one button that is Send or Stop in the same place.

import { useEffect, useRef, useState } from "react";
import type { ProfileListItem } from "../api";
import { Icon } from "../icons";
import { ProfilePicker } from "./picker";

interface Props {
  convId: string;
  profiles: ProfileListItem[];
  profile: string;
  running: boolean;
  /** The newest prompt, for editing it again. */
  newest: { text: string; turnId: string } | null;
  /** Set while the newest prompt is being edited. */
  editing: string | null;
  onEdit: (turnId: string | null) => void;
  onPick: (slug: string) => void;
  /** Whether it was taken. */
  onSend: (text: string) => Promise<boolean>;
  onStop: () => void;
}

export function Composer(props: Props) {
  const { convId, profiles, profile, running, newest, editing, onEdit, onPick, onSend, onStop } = props;
  const [text, setText] = useDraft(convId);
  const field = useRef<HTMLTextAreaElement>(null);

  // biome-ignore lint/correctness/useExhaustiveDependencies: what is edited comes once, when editing begins
  useEffect(() => {
    if (!editing || !newest) return;
    setText(newest.text);
    field.current?.focus();
  }, [editing]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the field grows with its text
  useEffect(() => {
    const element = field.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [text]);

  const send = async () => {
    const words = text.trim();
    if (!words) return;
    setText("");
    // What was not taken is not lost.
    if (!(await onSend(words))) setText((now) => now || words);
  };
  const onKey = (event: React.KeyboardEvent) => {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      void send();
    } else if (event.key === "Escape") {
      if (editing) {
        onEdit(null);
        setText("");
      } else if (running) onStop();
    } else if (event.key === "ArrowUp" && text === "" && newest && !running) {
      event.preventDefault();
      onEdit(newest.turnId);
    }
  };
  const stops = running && !text.trim();
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        if (stops) onStop();
        else void send();
      }}
    >
      {editing && (
        <p className="composer-note">
          The new prompt takes the place of your last one.
          <button
            type="button"
            className="quiet"
            onClick={() => {
              onEdit(null);
              setText("");
            }}
          >
            Keep the last one
          </button>
        </p>
      )}
      <textarea
        ref={field}
        // biome-ignore lint/a11y/noAutofocus: one comes here to ask
        autoFocus
        rows={1}
        value={text}
        aria-label="Prompt"
        placeholder="Ask..."
        onChange={(event) => setText(event.target.value)}
        onKeyDown={onKey}
      />
      <div className="composer-row">
        <ProfilePicker
          profiles={profiles}
          value={profile}
          onPick={(slug) => {
            onPick(slug);
            // One goes on to ask; the dialog gives the focus back to its button first.
            requestAnimationFrame(() => field.current?.focus());
          }}
        />
        <span className="composer-hint">{running ? "Esc stops" : "Enter sends, Shift+Enter breaks the line"}</span>
        <button type="submit" className="button primary send" disabled={!stops && !text.trim()}>
          <Icon name={stops ? "stop" : "send"} />
          {stops ? "Stop" : running ? "Queue" : "Send"}
        </button>
      </div>
    </form>
  );
}

/** What was begun and not sent is there again after a reload. */
function useDraft(convId: string): [string, React.Dispatch<React.SetStateAction<string>>] {
  const key = `draft:${convId}`;
  const [text, setText] = useState(() => localStorage.getItem(key) ?? "");
  useEffect(() => {
    if (text) localStorage.setItem(key, text);
    else localStorage.removeItem(key);
  }, [key, text]);
  return [text, setText];
}
