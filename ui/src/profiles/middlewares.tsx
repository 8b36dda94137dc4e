// Middlewares in the order in which they run, each with a form of its published schema.

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Icon } from "../icons";
import type { Middleware } from "./draft";
import { Complaints, TextField, useProblems } from "./fields";
import { type MiddlewareSchema, middlewares } from "./queries";
import { SchemaForm } from "./schema-form";

interface Props {
  value: Middleware[];
  changed: boolean;
  onChange: (value: Middleware[]) => void;
  onBroken: (broken: boolean) => void;
}

export function MiddlewareSection({ value, changed, onChange, onBroken }: Props) {
  const known = useQuery(middlewares).data ?? [];
  const [name, setName] = useState("");
  const chosen = name || known[0]?.name || "";
  const move = (from: number, to: number) => {
    const next = [...value];
    const [one] = next.splice(from, 1);
    if (one) next.splice(to, 0, one);
    onChange(next);
  };
  return (
    <div data-changed={changed} className="uses">
      {value.length === 0 && <p className="hint">None: the model is asked as it is.</p>}
      {value.map((use, at) => (
        <Use
          // biome-ignore lint/suspicious/noArrayIndexKey: its place is what it is known by
          key={at}
          at={at}
          count={value.length}
          use={use}
          schema={known.find((item) => item.name === use.name)}
          onChange={(next) => onChange(value.map((other, index) => (index === at ? next : other)))}
          onMove={(to) => move(at, to)}
          onRemove={() => onChange(value.filter((_, index) => index !== at))}
          onBroken={onBroken}
        />
      ))}
      <div className="adder">
        <select aria-label="Middleware to add" value={chosen} onChange={(event) => setName(event.target.value)}>
          {known.map((item) => (
            <option key={item.name} value={item.name}>
              {item.display_name || item.name}
            </option>
          ))}
        </select>
        <button
          type="button"
          className="button"
          disabled={!chosen}
          onClick={() => {
            // The same one twice needs ids.
            const again = value.filter((use) => use.name === chosen).length;
            onChange([...value, { name: chosen, ...(again ? { id: `${chosen}-${again + 1}` } : {}), config: {} }]);
          }}
        >
          <Icon name="plus" />
          Add a middleware
        </button>
      </div>
    </div>
  );
}

interface UseProps {
  at: number;
  count: number;
  use: Middleware;
  schema: MiddlewareSchema | undefined;
  onChange: (use: Middleware) => void;
  onMove: (to: number) => void;
  onRemove: () => void;
  onBroken: (broken: boolean) => void;
}

function Use({ at, count, use, schema, onChange, onMove, onRemove, onBroken }: UseProps) {
  const pointer = `/runtime/middlewares/${at}`;
  const about = useProblems(pointer);
  const inForm = Object.keys(schema?.schema.properties ?? {}).map((name) => `${pointer}/config/${name}`);
  // What a field of the form shows is not said twice.
  const own = about.filter((problem) => !inForm.some((place) => problem.pointer.startsWith(place)));
  const label = schema?.display_name || use.name;
  return (
    <section className="use" aria-label={label}>
      <header className="use-head">
        <h3>{label}</h3>
        <label className="check">
          <input
            type="checkbox"
            checked={use.enabled !== false}
            onChange={(event) => onChange({ ...use, enabled: event.target.checked ? undefined : false })}
          />
          On
        </label>
        <button
          type="button"
          className="quiet"
          disabled={at === 0}
          onClick={() => onMove(at - 1)}
          aria-label={`Move ${label} up`}
        >
          Up
        </button>
        <button
          type="button"
          className="quiet"
          disabled={at === count - 1}
          onClick={() => onMove(at + 1)}
          aria-label={`Move ${label} down`}
        >
          Down
        </button>
        <button type="button" className="quiet" onClick={onRemove} aria-label={`Remove ${label}`}>
          Remove
        </button>
      </header>
      {schema?.description && <p className="hint">{schema.description}</p>}
      <Complaints problems={own} />
      {use.id !== undefined && (
        <TextField
          label="Id"
          pointer={`${pointer}/id`}
          value={use.id}
          onChange={(id) => onChange({ ...use, id: id || undefined })}
        />
      )}
      <SchemaForm
        schema={schema?.schema ?? {}}
        value={use.config}
        pointer={`${pointer}/config`}
        onChange={(config) => onChange({ ...use, config })}
        onBroken={onBroken}
      />
    </section>
  );
}
