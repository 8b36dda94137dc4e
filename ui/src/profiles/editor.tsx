// The editor of a profile: sections in one scroll with an index beside them, and a bar that always says where one stands.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useBlocker, useNavigate } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import type { Problem } from "../api";
import { relative } from "../time";
import { Actions } from "./actions";
import { useCheck } from "./check";
import { Conflicts } from "./conflicts";
import { type Document, type Draft, isSame, slugOf } from "./draft";
import { useEditing } from "./editing";
import { ExtensionSection } from "./extensions";
import { CodeField, JsonField, ListField, Problems, TextField } from "./fields";
import { HistorySection } from "./history";
import { MiddlewareSection } from "./middlewares";
import { PolicySection } from "./policy";
import { tools, unlock } from "./queries";
import { Review } from "./review";
import { StandBar } from "./stand-bar";
import { ToolSection } from "./tools";
import { TryOut } from "./try-out";

interface Props {
  /** Absent for a profile that is not there yet. */
  slug: string | null;
  base: Draft;
  document: Document | null;
}

export function Editor({ slug, base: stored, document }: Props) {
  const navigate = useNavigate();
  const editing = useEditing(slug, stored, document?.metadata.version ?? 0);
  const { base, draft, set, version, failure } = editing;
  const [name, setName] = useState<string | null>(null);
  const [broken, setBroken] = useState<ReadonlySet<string>>(new Set());
  const [reviewing, setReviewing] = useState(false);
  const [trying, setTrying] = useState(false);
  const leaving = useRef(false);
  const known = useQuery(tools).data ?? [];
  const wanted = slug ?? name ?? slugOf(draft.display_name);
  const client = useQueryClient();
  const onStale = () => void client.invalidateQueries({ queryKey: ["profile", slug] });
  const check = useCheck({ slug, wanted, base, version, draft, onStale });
  // biome-ignore lint/correctness/useExhaustiveDependencies: once for each version that comes
  useEffect(() => {
    if (document && document.metadata.version > version) editing.bring(document);
  }, [document?.metadata.version]);
  const dirty = slug === null ? !isSame(stored, draft) : check.state !== "unchanged";
  useBlocker({
    shouldBlockFn: () => dirty && !leaving.current && !window.confirm("Leave without saving?"),
    enableBeforeUnload: () => dirty && !leaving.current,
  });
  const locked = document?.policy?.read_only === true && base.policy.read_only;
  const changed = (field: keyof Draft) => slug !== null && !isSame(base[field], draft[field]);
  const markBroken = (place: string) => (is: boolean) =>
    setBroken((now) => {
      const next = new Set(now);
      if (is) next.add(place);
      else next.delete(place);
      return next;
    });
  const save = async (note: string) => {
    const saved = await editing.save(wanted, note);
    // What was refused is said in the dialog; what somebody else stored meanwhile has to be looked at in the page.
    if (saved !== null) setReviewing(false);
    if (saved === null || saved === "faster" || slug !== null) return;
    leaving.current = true;
    await navigate({ to: "/p/$slug", params: { slug: saved.slug } });
  };
  const problems: Problem[] = check.state === "problems" ? check.problems : [];
  return (
    <Problems.Provider value={problems}>
      <header className="thread-head">
        <Link to="/p" className="quiet back">
          Profiles
        </Link>
        <h1 className="thread-title">{slug === null ? "New profile" : draft.display_name || slug}</h1>
        {document && (
          <span className="head-meta">
            v{version}
            {document.metadata.updated_at_ms ? `, ${relative(document.metadata.updated_at_ms)}` : ""}
            {document.metadata.updated_by ? ` by ${document.metadata.updated_by}` : ""}
          </span>
        )}
        {slug !== null && document && (
          <Actions
            slug={slug}
            isDefault={document.is_default}
            trying={trying}
            onTry={() => setTrying(!trying)}
            onAct={editing.act}
            onLeave={() => {
              leaving.current = true;
            }}
          />
        )}
        {slug === null && (
          <button type="button" className="quiet" aria-pressed={trying} onClick={() => setTrying(!trying)}>
            Try it
          </button>
        )}
      </header>
      <div className="bench" data-trying={trying}>
        <div className="scroll">
          <div className="editor-page">
            <SectionIndex hasHistory={slug !== null} />
            <form className="editor" onSubmit={(event) => event.preventDefault()}>
              {locked && (
                <p className="note-bar" role="status">
                  This profile is read-only.
                  <button
                    type="button"
                    className="quiet"
                    onClick={() => slug && editing.act(async () => editing.take(await unlock(slug, base)))}
                  >
                    Unlock
                  </button>
                </p>
              )}
              {editing.conflicts.length > 0 && (
                <Conflicts
                  conflicts={editing.conflicts}
                  theirs={base}
                  onTheirs={(field) => set(field, base[field])}
                  onDone={editing.decided}
                />
              )}
              <fieldset className="section" id="about" disabled={locked}>
                <legend>About</legend>
                <TextField
                  label="Name"
                  pointer="/display_name"
                  value={draft.display_name}
                  changed={changed("display_name")}
                  onChange={(value) => set("display_name", value)}
                />
                {slug === null && (
                  <TextField
                    label="Slug"
                    hint="Names the profile in addresses and files; it cannot be changed later."
                    pointer="/slug"
                    value={wanted}
                    onChange={setName}
                  />
                )}
                <TextField
                  label="Description"
                  hint="What people see when they choose."
                  pointer="/description"
                  rows={2}
                  value={draft.description}
                  changed={changed("description")}
                  onChange={(value) => set("description", value)}
                />
                <ListField
                  label="Tags"
                  hint="With commas between them."
                  pointer="/metadata/tags"
                  value={draft.tags}
                  changed={changed("tags")}
                  onChange={(value) => set("tags", value)}
                />
              </fieldset>
              <fieldset className="section" id="prompt" disabled={locked}>
                <legend>Prompt</legend>
                <CodeField
                  label="System prompt"
                  hint="Empty means the server's own."
                  language="markdown"
                  pointer="/runtime/system_prompt"
                  disabled={locked}
                  value={draft.system_prompt}
                  changed={changed("system_prompt")}
                  onChange={(value) => set("system_prompt", value)}
                />
              </fieldset>
              <fieldset className="section" id="middlewares" disabled={locked}>
                <legend>Middlewares</legend>
                <MiddlewareSection
                  value={draft.middlewares}
                  changed={changed("middlewares")}
                  onChange={(value) => set("middlewares", value)}
                  onBroken={markBroken("middlewares")}
                />
              </fieldset>
              <fieldset className="section" id="tools" disabled={locked}>
                <legend>Tools</legend>
                <ToolSection
                  known={known}
                  value={draft.tools}
                  changed={changed("tools")}
                  onChange={(value) => set("tools", value)}
                />
              </fieldset>
              <fieldset className="section" id="policy" disabled={locked}>
                <legend>Policy</legend>
                <PolicySection value={draft.policy} onChange={(value) => set("policy", value)} />
              </fieldset>
              <fieldset className="section" id="extensions" disabled={locked}>
                <legend>Extensions</legend>
                <ExtensionSection draft={draft} onChange={(value) => set("extensions", value)} onBroken={markBroken} />
              </fieldset>
              <fieldset className="section" id="settings" disabled={locked}>
                <legend>Provider settings</legend>
                <JsonField
                  label="Settings over the operator's, by section"
                  hint='For example {"ai-chat": {"ai-engine": "gpt-4o-mini"}}. Keys do not belong here.'
                  pointer="/runtime/step_settings_patch"
                  disabled={locked}
                  value={draft.step_settings_patch}
                  changed={changed("step_settings_patch")}
                  onChange={(value) => set("step_settings_patch", value as Record<string, unknown>)}
                  onBroken={markBroken("settings")}
                />
              </fieldset>
              {slug !== null && (
                <HistorySection slug={slug} version={version} dirty={dirty} onRestored={editing.take} />
              )}
            </form>
          </div>
        </div>
        {trying && wanted !== "" && <TryOut slug={wanted} draft={draft} onClose={() => setTrying(false)} />}
      </div>
      <StandBar
        check={check}
        broken={broken.size > 0}
        failure={failure}
        isNew={slug === null}
        canSave={wanted !== ""}
        onReview={() => setReviewing(true)}
        onDiscard={() => window.confirm("Discard your changes?") && editing.discard()}
      />
      {reviewing && check.state === "valid" && (
        <Review
          isNew={slug === null}
          slug={wanted}
          changes={check.changes}
          failure={failure}
          onClose={() => setReviewing(false)}
          onSave={save}
        />
      )}
    </Problems.Provider>
  );
}

const SECTIONS: [string, string][] = [
  ["about", "About"],
  ["prompt", "Prompt"],
  ["middlewares", "Middlewares"],
  ["tools", "Tools"],
  ["policy", "Policy"],
  ["extensions", "Extensions"],
  ["settings", "Provider settings"],
];

function SectionIndex({ hasHistory }: { hasHistory: boolean }) {
  const all = hasHistory ? [...SECTIONS, ["history", "History"] as [string, string]] : SECTIONS;
  return (
    <nav className="index" aria-label="Sections">
      {all.map(([id, label]) => (
        <button
          key={id}
          type="button"
          className="quiet"
          onClick={() => document.getElementById(id)?.scrollIntoView({ block: "start" })}
        >
          {label}
        </button>
      ))}
    </nav>
  );
}
