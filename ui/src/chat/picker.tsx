// The profile that answers next: a pill that opens a list one can search.

import { useId, useMemo, useRef, useState } from "react";
import type { ProfileListItem } from "../api";
import { Icon } from "../icons";

interface Props {
  profiles: ProfileListItem[];
  value: string;
  onPick: (slug: string) => void;
}

export function ProfilePicker({ profiles, value, onPick }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [search, setSearch] = useState("");
  const [at, setAt] = useState(0);
  const id = useId();
  const current = profiles.find((profile) => profile.slug === value);
  const found = useMemo(() => {
    const words = search.trim().toLowerCase();
    const has = (text?: string) => text?.toLowerCase().includes(words);
    return profiles.filter((p) => !words || has(p.slug) || has(p.display_name) || has(p.description));
  }, [profiles, search]);
  const chosen = Math.min(at, found.length - 1);

  const open = () => {
    setSearch("");
    setAt(
      Math.max(
        0,
        profiles.findIndex((profile) => profile.slug === value),
      ),
    );
    dialog.current?.showModal();
  };
  const pick = (profile: ProfileListItem | undefined) => {
    if (!profile) return;
    onPick(profile.slug);
    dialog.current?.close();
  };
  const onKey = (event: React.KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      setAt(Math.max(0, Math.min(found.length - 1, chosen + step)));
    } else if (event.key === "Enter") {
      event.preventDefault();
      pick(found[chosen]);
    }
  };
  return (
    <>
      <button type="button" className="pill" onClick={open} aria-haspopup="dialog">
        <span className="pill-label">Profile</span>
        <span className="pill-name">{current?.display_name || value || "…"}</span>
        <Icon name="chevron" />
      </button>
      <dialog
        ref={dialog}
        className="picker"
        aria-label="Choose a profile"
        onClick={(event) => event.target === dialog.current && dialog.current.close()}
        onKeyDown={onKey}
      >
        <label className="search">
          <Icon name="search" />
          <input
            autoFocus
            type="search"
            role="combobox"
            aria-expanded="true"
            aria-controls={`${id}-list`}
            aria-activedescendant={found[chosen] ? `${id}-${found[chosen].slug}` : undefined}
            aria-label="Search profiles"
            placeholder="Search profiles"
            value={search}
            onChange={(event) => {
              setSearch(event.target.value);
              setAt(0);
            }}
          />
        </label>
        <div className="options" role="listbox" id={`${id}-list`} aria-label="Profiles">
          {found.map((profile, index) => (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the keys are the field's, which keeps the focus
            <div
              key={profile.slug}
              id={`${id}-${profile.slug}`}
              role="option"
              tabIndex={-1}
              aria-selected={index === chosen}
              className="option"
              onClick={() => pick(profile)}
            >
              <span className="option-name">
                {profile.display_name || profile.slug}
                <span className="option-slug">
                  {profile.slug} v{profile.version}
                  {profile.is_default ? ", default" : ""}
                </span>
              </span>
              {profile.description && <span className="option-text">{profile.description}</span>}
            </div>
          ))}
          {found.length === 0 && <p className="hint">No profile has that.</p>}
        </div>
      </dialog>
    </>
  );
}
