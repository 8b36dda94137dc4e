// Profiles: the list, and the editor of one.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { Refusal, saidOf } from "../api";
import { profiles } from "../chat/queries";
import { Icon } from "../icons";
import { Complaint, Search } from "../parts";
import { relative } from "../time";
import { type Document, type Draft, draftOf, EMPTY } from "./draft";
import { Editor } from "./editor";
import { history, profile, restore } from "./queries";
import { Transfer } from "./transfer";

export function ProfilesPage() {
  const { slug } = useParams({ strict: false });
  return (
    <>
      <ProfileList alone={!slug} />
      <main className="thread" id="work" tabIndex={-1}>
        {slug ? (
          <Existing key={slug} slug={slug} />
        ) : (
          <p className="hint placeholder">Choose a profile, or make one.</p>
        )}
      </main>
    </>
  );
}

/** Empty, or a copy of another one. */
export function NewProfilePage() {
  const { from } = useSearch({ strict: false }) as { from?: string };
  const copied = useQuery({ ...profile(from ?? ""), enabled: from !== undefined });
  if (from !== undefined && !copied.data) return null;
  const base = copied.data ? copyOf(copied.data) : EMPTY;
  return (
    <>
      <ProfileList />
      <main className="thread" id="work" tabIndex={-1}>
        <Editor key={from ?? ""} slug={null} base={base} document={null} />
      </main>
    </>
  );
}

function copyOf(document: Document): Draft {
  const draft = draftOf(document);
  const policy = { ...draft.policy, read_only: false };
  return { ...draft, display_name: `${draft.display_name || document.slug} copy`, policy };
}

function Existing({ slug }: { slug: string }) {
  const found = useQuery(profile(slug));
  // What one has typed stays, also when the server is away for a while.
  if (found.data) return <Editor slug={slug} base={draftOf(found.data)} document={found.data} />;
  const isGone = found.data === null || (found.error instanceof Refusal && found.error.status === 404);
  if (isGone) return <Gone slug={slug} />;
  if (!found.isError) return null;
  return <p className="hint placeholder">This profile cannot be read: {found.error.message}.</p>;
}

/** One that was deleted can come back. */
function Gone({ slug }: { slug: string }) {
  const client = useQueryClient();
  const [failure, setFailure] = useState<string | null>(null);
  const changes = useQuery(history(slug)).data;
  const newest = changes?.[0];
  const last = changes?.find((change) => change.content_hash !== "");
  if (!changes) return <p className="hint placeholder">There is no profile “{slug}”.</p>;
  const comeBack = async (version: number, now: number) => {
    try {
      await restore(slug, version, now);
      await client.resetQueries({ queryKey: ["profile", slug] });
      await client.invalidateQueries({ queryKey: ["profiles"] });
    } catch (error) {
      setFailure(saidOf(error));
    }
  };
  return (
    <div className="placeholder gone">
      <p>
        “{slug}” was deleted{newest ? ` ${relative(newest.at_ms)} by ${newest.actor}` : ""}.
      </p>
      {newest && last && (
        <button type="button" className="button" onClick={() => void comeBack(last.version, newest.version)}>
          Restore v{last.version}
        </button>
      )}
      {failure && <Complaint text={failure} />}
    </div>
  );
}

function ProfileList({ alone = false }: { alone?: boolean }) {
  const list = useQuery(profiles);
  const [search, setSearch] = useState("");
  const [tag, setTag] = useState("");
  const words = search.trim().toLowerCase();
  const has = (text: string | undefined) => text?.toLowerCase().includes(words);
  const all = list.data ?? [];
  const tags = [...new Set(all.flatMap((p) => p.tags ?? []))].sort();
  // A tag that nobody has any more filters nothing.
  const wanted = tags.includes(tag) ? tag : "";
  const found = all.filter(
    (p) =>
      (!words || has(p.slug) || has(p.display_name) || has(p.description) || p.tags?.some(has)) &&
      (!wanted || (p.tags ?? []).includes(wanted)),
  );
  return (
    <aside className="list" data-open={alone} aria-label="Profiles">
      <div className="list-head">
        <Search label="Filter profiles" value={search} onChange={setSearch} />
        <Link to="/new-profile" className="button">
          <Icon name="plus" />
          New
        </Link>
      </div>
      {tags.length > 0 && (
        <label className="list-filter">
          Tag
          <select value={wanted} onChange={(event) => setTag(event.target.value)}>
            <option value="">All</option>
            {tags.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
      )}
      <div className="list-items">
        {found.map((item) => (
          <Link key={item.slug} to="/p/$slug" params={{ slug: item.slug }} className="list-item">
            <span className="list-title">{item.display_name || item.slug}</span>
            <span className="list-meta">
              <span>{item.slug}</span>
              <span>
                {item.is_default ? "default, " : ""}
                {item.read_only ? "read-only, " : ""}v{item.version}
              </span>
            </span>
          </Link>
        ))}
        <Transfer />
        {list.isSuccess && found.length === 0 && <p className="hint">No profile has that.</p>}
        {list.isError && <p className="hint">The list cannot be read: {list.error.message}.</p>}
      </div>
    </aside>
  );
}
