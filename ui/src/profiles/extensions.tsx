// What others keep with a profile: by its schema where one is published, else as JSON.

import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Icon } from "../icons";
import type { Draft } from "./draft";
import { JsonField } from "./fields";
import { extensions, type Schema } from "./queries";
import { SchemaForm } from "./schema-form";

export function ExtensionSection(props: {
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
      {Object.entries(value).map(([name, payload]) => {
        const shape = known.find((item) => item.key === name)?.schema;
        const set = (next: unknown) => props.onChange({ ...value, [name]: next });
        const remove = () =>
          props.onChange(Object.fromEntries(Object.entries(value).filter(([other]) => other !== name)));
        return (
          <section key={name} className="use" aria-label={name}>
            <header className="use-head">
              <h3 className="mono">{name}</h3>
              <button type="button" className="quiet" onClick={remove} aria-label={`Remove ${name}`}>
                Remove
              </button>
            </header>
            {shape?.properties && isObject(payload) ? (
              <SchemaForm
                schema={shape}
                value={payload}
                pointer={`/extensions/${name}`}
                onChange={set}
                onBroken={props.onBroken(name)}
              />
            ) : (
              <JsonField
                label={`${name} as JSON`}
                pointer={`/extensions/${name}`}
                value={payload}
                onChange={set}
                onBroken={props.onBroken(name)}
              />
            )}
          </section>
        );
      })}
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
            props.onChange({ ...value, [key.trim()]: startOf(known.find((item) => item.key === key.trim())?.schema) });
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

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What an extension begins with: its required members, empty. */
function startOf(schema: Schema | undefined): Record<string, unknown> {
  const empty = (of: Schema | undefined) =>
    of?.default ?? (of?.type === "array" ? [] : of?.type === "object" ? {} : of?.type === "string" ? "" : null);
  return Object.fromEntries((schema?.required ?? []).map((name) => [name, empty(schema?.properties?.[name])]));
}
