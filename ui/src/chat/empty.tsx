// Before the first word: who would answer, and what one could ask.

import type { ProfileListItem } from "../api";
import { DEMO } from "../facts";

/** `webchat.starter_suggestions@v1` of a profile. */
function suggestionsOf(profile: ProfileListItem | undefined): string[] {
  const extension = profile?.extensions?.["webchat.starter_suggestions@v1"] as { items?: unknown } | undefined;
  const items = Array.isArray(extension?.items) ? extension.items : [];
  return items.filter((item): item is string => typeof item === "string" && item.trim() !== "");
}

interface Props {
  profile: ProfileListItem | undefined;
  isNew: boolean;
  onAsk: (text: string) => void;
}

export function Empty({ profile, isNew, onAsk }: Props) {
  if (!profile) return null;
  return (
    <div className="empty">
      {!isNew && (
        <p className="note-bar" role="status">
          Nothing is stored under this address; it may have been deleted. What you ask here begins it anew.
        </p>
      )}
      <h1>{profile.display_name || profile.slug}</h1>
      {profile.description && <p>{profile.description}</p>}
      <div className="suggestions">
        {suggestionsOf(profile).map((text) => (
          <button type="button" key={text} className="button" onClick={() => onAsk(text)}>
            {text}
          </button>
        ))}
      </div>
      {DEMO && (
        <p className="hint">
          The offline demo model answers. For a real one start the server with OPENAI_API_KEY, or with --openai-base-url
          for a server of your own.
        </p>
      )}
    </div>
  );
}
