// The editor of a profile: sections in one scroll, and a bar that always says where one stands.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useBlocker, useNavigate } from "@tanstack/react-router";
import { useMemo, useRef, useState } from "react";
import { askJson, type Problem, Refusal } from "../api";
import { Icon } from "../icons";
import { relative } from "../time";
import { type Check, useCheck } from "./check";
import { Diff } from "./diff";
import { type Document, type Draft, draftOf, isSame, merged, slugOf } from "./draft";
import { JsonField, ListField, Problems, TextField } from "./fields";
import { HistorySection } from "./history";
import { MiddlewareSection } from "./middlewares";
import { create, extensions, makeDefault, remove, tools, unlock, update } from "./queries";
import { ToolSection } from "./tools";

interface Props {
  /** Absent for a profile that is not there yet. */
  slug: string | null;
  base: Draft;
  document: Document | null;
}

export function Editor({ slug, base: stored, document }: Props) {
  const client = useQueryClient();
  const navigate = useNavigate();
  // What was there when editing began; others may store something else meanwhile.
  const [base, setBase] = useState(stored);
  const [version, setVersion] = useState(document?.metadata.version ?? 0);
  const [draft, setDraft] = useState(stored);
  const [name, setName] = useState<string | null>(null);
  const [broken, setBroken] = useState<ReadonlySet<string>>(new Set());
  const [review, setReview] = useState<"closed" | "open">("closed");
  const [conflicts, setConflicts] = useState<(keyof Draft)[]>([]);
  const [failure, setFailure] = useState<string | null>(null);
  const leaving = useRef(false);
  const wanted = slug ?? name ?? slugOf(draft.display_name);
  const check = useCheck(slug, wanted, base, draft);
  const dirty = slug === null ? !isSame(base, draft) : check.state !== "unchanged";
  useBlocker({
    shouldBlockFn: () => dirty && !leaving.current && !window.confirm("Leave without saving?"),
    enableBeforeUnload: () => dirty && !leaving.current,
  });
  const locked = document?.policy?.read_only === true && base.policy.read_only;
  const set = <K extends keyof Draft>(field: K, value: Draft[K]) => setDraft((now) => ({ ...now, [field]: value }));
  const changed = (field: keyof Draft) => slug !== null && !isSame(base[field], draft[field]);
  const markBroken = (place: string) => (is: boolean) =>
    setBroken((now) => {
      const next = new Set(now);
      if (is) next.add(place);
      else next.delete(place);
      return next;
    });

  const take = async (saved: Document) => {
    const now = draftOf(saved);
    setBase(now);
    setDraft(now);
    setVersion(saved.metadata.version);
    setConflicts([]);
    setReview("closed");
    await client.invalidateQueries({ queryKey: ["profile", saved.slug] });
    await client.invalidateQueries({ queryKey: ["profiles"] });
  };
  const save = async (note: string) => {
    setFailure(null);
    try {
      if (slug === null) {
        const saved = await create(wanted, draft, note);
        await client.invalidateQueries({ queryKey: ["profiles"] });
        leaving.current = true;
        await navigate({ to: "/p/$slug", params: { slug: saved.slug } });
        return;
      }
      await take(await update(slug, draft, version, note));
    } catch (error) {
      if (error instanceof Refusal && error.status === 409 && slug !== null) await bring(slug);
      else setFailure(error instanceof Error ? error.message : String(error));
    }
  };
  /** Somebody was faster: both changes are brought together, and what both touched is named. */
  const bring = async (of: string) => {
    const theirs = await askJson<Document>(`api/chat/profiles/${encodeURIComponent(of)}`);
    const now = draftOf(theirs);
    const result = merged(base, draft, now);
    setBase(now);
    setVersion(theirs.metadata.version);
    setDraft(result.draft);
    setConflicts(result.conflicts);
    setReview("closed");
    const who = theirs.metadata.updated_by ? ` by ${theirs.metadata.updated_by}` : "";
    setFailure(
      `Version ${theirs.metadata.version} was stored${who} meanwhile. Your changes now stand on it; look once more.`,
    );
  };
  const act = async (work: () => Promise<unknown>) => {
    setFailure(null);
    try {
      await work();
      await client.invalidateQueries({ queryKey: ["profiles"] });
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    }
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
            onDefault={() =>
              act(async () => {
                await makeDefault(slug);
                await client.invalidateQueries({ queryKey: ["profile", slug] });
              })
            }
            onDelete={() =>
              act(async () => {
                await remove(slug);
                leaving.current = true;
                await navigate({ to: "/p" });
              })
            }
          />
        )}
      </header>
      <div className="scroll">
        <form className="editor" onSubmit={(event) => event.preventDefault()}>
          {locked && (
            <p className="note-bar" role="status">
              This profile is read-only.
              <button
                type="button"
                className="quiet"
                onClick={() => slug && act(async () => take(await unlock(slug, base)))}
              >
                Unlock
              </button>
            </p>
          )}
          {conflicts.length > 0 && (
            <Conflicts
              conflicts={conflicts}
              theirs={base}
              onTheirs={(field) => set(field, base[field])}
              onDone={setConflicts}
            />
          )}
          <fieldset className="section" disabled={locked}>
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
          <fieldset className="section" disabled={locked}>
            <legend>Prompt</legend>
            <TextField
              label="System prompt"
              hint="Empty means the server's own."
              pointer="/runtime/system_prompt"
              rows={12}
              value={draft.system_prompt}
              changed={changed("system_prompt")}
              onChange={(value) => set("system_prompt", value)}
            />
          </fieldset>
          <fieldset className="section" disabled={locked}>
            <legend>Middlewares</legend>
            <MiddlewareSection
              value={draft.middlewares}
              changed={changed("middlewares")}
              onChange={(value) => set("middlewares", value)}
              onBroken={markBroken("middlewares")}
            />
          </fieldset>
          <fieldset className="section" disabled={locked}>
            <legend>Tools</legend>
            <ToolSection
              known={useQuery(tools).data ?? []}
              value={draft.tools}
              changed={changed("tools")}
              onChange={(value) => set("tools", value)}
            />
          </fieldset>
          <fieldset className="section" disabled={locked}>
            <legend>Policy</legend>
            <label className="check">
              <input
                type="checkbox"
                checked={draft.policy.allow_overrides}
                onChange={(event) => set("policy", { ...draft.policy, allow_overrides: event.target.checked })}
              />
              Requests may override parts of the runtime
            </label>
            {draft.policy.allow_overrides && (
              <>
                <ListField
                  label="Only these overrides"
                  hint="Empty means all: system_prompt, middlewares, tools."
                  pointer="/policy/allowed_override_keys"
                  value={draft.policy.allowed_override_keys}
                  onChange={(value) => set("policy", { ...draft.policy, allowed_override_keys: value })}
                />
                <ListField
                  label="Never these"
                  pointer="/policy/denied_override_keys"
                  value={draft.policy.denied_override_keys}
                  onChange={(value) => set("policy", { ...draft.policy, denied_override_keys: value })}
                />
              </>
            )}
            <label className="check">
              <input
                type="checkbox"
                checked={draft.policy.read_only}
                onChange={(event) => set("policy", { ...draft.policy, read_only: event.target.checked })}
              />
              Read-only once saved; an operator can unlock it
            </label>
          </fieldset>
          <fieldset className="section" disabled={locked}>
            <legend>Extensions</legend>
            <ExtensionSection draft={draft} onChange={(value) => set("extensions", value)} onBroken={markBroken} />
          </fieldset>
          <fieldset className="section" disabled={locked}>
            <legend>Provider settings</legend>
            <JsonField
              label="Settings over the operator's, by section"
              hint='For example {"ai-chat": {"ai-engine": "gpt-4o-mini"}}. Keys do not belong here.'
              pointer="/runtime/step_settings_patch"
              value={draft.step_settings_patch}
              changed={changed("step_settings_patch")}
              onChange={(value) => set("step_settings_patch", value as Record<string, unknown>)}
              onBroken={markBroken("settings")}
            />
          </fieldset>
          {slug !== null && <HistorySection slug={slug} version={version} dirty={dirty} onRestored={take} />}
        </form>
      </div>
      <StandBar
        check={check}
        broken={broken.size > 0}
        failure={failure}
        isNew={slug === null}
        canSave={wanted !== ""}
        onReview={() => setReview("open")}
        onDiscard={() => {
          setDraft(base);
          setFailure(null);
          setConflicts([]);
        }}
      />
      {review === "open" && check.state === "valid" && (
        <Review
          isNew={slug === null}
          slug={wanted}
          changes={check.changes}
          failure={failure}
          onClose={() => setReview("closed")}
          onSave={save}
        />
      )}
    </Problems.Provider>
  );
}

function Actions(props: { slug: string; isDefault: boolean; onDefault: () => void; onDelete: () => void }) {
  const sure = useRef<HTMLDialogElement>(null);
  return (
    <>
      {props.isDefault ? (
        <span className="head-meta">default</span>
      ) : (
        <button type="button" className="quiet" onClick={props.onDefault}>
          Make default
        </button>
      )}
      <button type="button" className="quiet danger" onClick={() => sure.current?.showModal()}>
        <Icon name="trash" />
        Delete
      </button>
      <dialog ref={sure} className="sure" aria-label={`Delete ${props.slug}`}>
        <h2>Delete “{props.slug}”?</h2>
        <p>
          Conversations keep what it answered. New prompts cannot use it.
          {props.isDefault ? " Another profile becomes the default." : ""} Its history stays, and it can be restored.
        </p>
        <form method="dialog" className="sure-row">
          <button type="submit" className="button">
            Keep it
          </button>
          <button type="button" className="button danger" onClick={props.onDelete}>
            Delete
          </button>
        </form>
      </dialog>
    </>
  );
}

const FIELD_NAMES: Record<keyof Draft, string> = {
  display_name: "Name",
  description: "Description",
  tags: "Tags",
  system_prompt: "System prompt",
  middlewares: "Middlewares",
  tools: "Tools",
  step_settings_patch: "Provider settings",
  policy: "Policy",
  extensions: "Extensions",
};

function Conflicts(props: {
  conflicts: (keyof Draft)[];
  theirs: Draft;
  onTheirs: (field: keyof Draft) => void;
  onDone: (left: (keyof Draft)[]) => void;
}) {
  const done = (field: keyof Draft) => props.onDone(props.conflicts.filter((other) => other !== field));
  return (
    <section className="conflicts" aria-label="Changed on both sides">
      <h2>Changed on both sides</h2>
      {props.conflicts.map((field) => (
        <div key={field} className="conflict">
          <span>{FIELD_NAMES[field]}</span>
          <button type="button" className="button" onClick={() => done(field)}>
            Keep mine
          </button>
          <button
            type="button"
            className="button"
            onClick={() => {
              props.onTheirs(field);
              done(field);
            }}
          >
            Take theirs
          </button>
          <pre>
            {typeof props.theirs[field] === "string"
              ? String(props.theirs[field])
              : JSON.stringify(props.theirs[field], null, 2)}
          </pre>
        </div>
      ))}
    </section>
  );
}

function ExtensionSection(props: {
  draft: Draft;
  onChange: (value: Record<string, unknown>) => void;
  onBroken: (place: string) => (broken: boolean) => void;
}) {
  const known = useQuery(extensions).data ?? [];
  const [key, setKey] = useState("");
  const value = props.draft.extensions;
  const free = useMemo(
    () => known.map((item) => item.key).filter((name) => !name.startsWith("middleware.") && !(name in value)),
    [known, value],
  );
  return (
    <>
      {Object.keys(value).map((name) => (
        <div key={name} className="extension">
          <JsonField
            label={name}
            pointer={`/extensions/${name}`}
            value={value[name]}
            onChange={(next) => props.onChange({ ...value, [name]: next })}
            onBroken={props.onBroken(name)}
          />
          <button
            type="button"
            className="quiet"
            onClick={() =>
              props.onChange(Object.fromEntries(Object.entries(value).filter(([other]) => other !== name)))
            }
          >
            Remove
          </button>
        </div>
      ))}
      <div className="adder">
        <input
          type="text"
          list="extension-keys"
          aria-label="Key of an extension"
          placeholder="vendor.feature@v1"
          value={key}
          onChange={(event) => setKey(event.target.value)}
        />
        <datalist id="extension-keys">
          {free.map((name) => (
            <option key={name} value={name} />
          ))}
        </datalist>
        <button
          type="button"
          className="button"
          disabled={key.trim() === "" || key.trim() in value}
          onClick={() => {
            props.onChange({ ...value, [key.trim()]: key.trim().startsWith("webchat.starter") ? { items: [] } : {} });
            setKey("");
          }}
        >
          <Icon name="plus" />
          Add an extension
        </button>
      </div>
    </>
  );
}

function StandBar(props: {
  check: Check;
  broken: boolean;
  failure: string | null;
  isNew: boolean;
  canSave: boolean;
  onReview: () => void;
  onDiscard: () => void;
}) {
  const { check, broken, failure } = props;
  const first = () => document.querySelector<HTMLElement>(".editor [aria-invalid='true']")?.focus();
  return (
    <footer className="stand-bar">
      {failure && (
        <p className="problem" role="alert">
          <Icon name="alert" />
          {failure}
        </p>
      )}
      <div className="stand-row">
        <span role="status">
          {broken ? "Some JSON does not parse" : standOf(check)}
          {check.state === "problems" && (
            <button type="button" className="quiet" onClick={first}>
              Show the first
            </button>
          )}
        </span>
        {check.state !== "unchanged" && !props.isNew && (
          <button type="button" className="button" onClick={props.onDiscard}>
            Discard
          </button>
        )}
        <button
          type="button"
          className="button primary"
          disabled={check.state !== "valid" || broken || !props.canSave}
          onClick={props.onReview}
        >
          {props.isNew ? "Create" : "Review"}
        </button>
      </div>
    </footer>
  );
}

function standOf(check: Check): string {
  switch (check.state) {
    case "unchanged":
      return "No changes";
    case "asking":
      return "Checking";
    case "valid":
      return check.changes.length === 0 ? "Valid" : `${counted(check.changes.length, "change")}, valid`;
    case "problems":
      return counted(check.problems.length, "problem");
    case "unknown":
      return `Cannot be checked: ${check.reason}`;
  }
}

function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function Review(props: {
  isNew: boolean;
  slug: string;
  changes: Parameters<typeof Diff>[0]["changes"];
  failure: string | null;
  onClose: () => void;
  onSave: (note: string) => Promise<void>;
}) {
  const [note, setNote] = useState("");
  const [saving, setSaving] = useState(false);
  const open = (dialog: HTMLDialogElement | null) => {
    if (dialog && !dialog.open) dialog.showModal();
  };
  const save = async () => {
    setSaving(true);
    await props.onSave(note);
    setSaving(false);
  };
  return (
    <dialog ref={open} className="review" aria-label="Review" onClose={props.onClose}>
      <h2>{props.isNew ? `Create “${props.slug}”` : `Save “${props.slug}”`}</h2>
      {!props.isNew && <Diff changes={props.changes} />}
      <label className="field">
        Why (for the history)
        <input type="text" maxLength={200} value={note} onChange={(event) => setNote(event.target.value)} />
      </label>
      {props.failure && (
        <p className="problem" role="alert">
          {props.failure}
        </p>
      )}
      <div className="sure-row">
        <button type="button" className="button" onClick={props.onClose}>
          Back
        </button>
        <button type="button" className="button primary" disabled={saving} onClick={() => void save()}>
          {props.isNew ? "Create" : "Save"}
        </button>
      </div>
    </dialog>
  );
}
