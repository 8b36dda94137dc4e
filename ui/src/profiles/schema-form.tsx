// A form of a JSON Schema: what it cannot show it shows as JSON. It judges nothing: the server does.

import { Field, JsonField, TextField } from "./fields";
import type { Schema } from "./queries";

interface Props {
  schema: Schema;
  value: Record<string, unknown>;
  pointer: string;
  onChange: (value: Record<string, unknown>) => void;
  onBroken: (broken: boolean) => void;
}

export function SchemaForm({ schema, value, pointer, onChange, onBroken }: Props) {
  const known = Object.entries(schema.properties ?? {});
  const set = (name: string, member: unknown) => {
    const next = { ...value };
    if (member === undefined) delete next[name];
    else next[name] = member;
    onChange(next);
  };
  const others = Object.keys(value).filter((name) => !schema.properties?.[name]);
  return (
    <div className="schema-form">
      {known.map(([name, member]) => (
        <Member
          key={name}
          name={name}
          schema={member}
          required={schema.required?.includes(name) ?? false}
          value={value[name]}
          pointer={`${pointer}/${name}`}
          onChange={(next) => set(name, next)}
          onBroken={onBroken}
        />
      ))}
      {others.map((name) => (
        <JsonField
          key={name}
          label={name}
          pointer={`${pointer}/${name}`}
          value={value[name]}
          onChange={(next) => set(name, next)}
          onBroken={onBroken}
        />
      ))}
    </div>
  );
}

interface MemberProps {
  name: string;
  schema: Schema;
  required: boolean;
  value: unknown;
  pointer: string;
  onChange: (value: unknown) => void;
  onBroken: (broken: boolean) => void;
}

function Member({ name, schema, required, value, pointer, onChange, onBroken }: MemberProps) {
  const label = `${schema.title ?? name}${required ? " (required)" : ""}`;
  const about = [
    schema.description,
    schema.default !== undefined && `Default: ${JSON.stringify(schema.default)}`,
    schema.minimum !== undefined && `at least ${schema.minimum}`,
    schema.maximum !== undefined && `at most ${schema.maximum}`,
  ];
  const hint = about.filter(Boolean).join(". ");
  if (schema.enum) {
    return (
      <Field label={label} hint={hint} pointer={pointer}>
        {(ids) => (
          <select
            value={value === undefined ? "" : JSON.stringify(value)}
            onChange={(event) => onChange(event.target.value === "" ? undefined : JSON.parse(event.target.value))}
            {...ids}
          >
            <option value="">Not set</option>
            {schema.enum?.map((choice) => (
              <option key={JSON.stringify(choice)} value={JSON.stringify(choice)}>
                {String(choice)}
              </option>
            ))}
          </select>
        )}
      </Field>
    );
  }
  switch (Array.isArray(schema.type) ? undefined : schema.type) {
    case "string":
    case "integer":
    case "number":
      return (
        <TextField
          label={label}
          hint={hint}
          pointer={pointer}
          value={value === undefined ? "" : String(value)}
          onChange={(text) => onChange(text === "" ? undefined : schema.type === "string" ? text : numberOf(text))}
        />
      );
    case "boolean":
      return (
        <Field label={label} hint={hint} pointer={pointer}>
          {(ids) => (
            <select
              value={value === undefined ? "" : String(value)}
              onChange={(event) => onChange(event.target.value === "" ? undefined : event.target.value === "true")}
              {...ids}
            >
              <option value="">Not set</option>
              <option value="true">Yes</option>
              <option value="false">No</option>
            </select>
          )}
        </Field>
      );
    default:
      if (schema.type === "object" && schema.properties) {
        return (
          <fieldset>
            <legend>{label}</legend>
            <SchemaForm
              schema={schema}
              value={(value as Record<string, unknown> | undefined) ?? {}}
              pointer={pointer}
              onChange={(next) => onChange(Object.keys(next).length > 0 ? next : undefined)}
              onBroken={onBroken}
            />
          </fieldset>
        );
      }
      if (schema.type === "array" && schema.items?.type === "string") {
        const lines = Array.isArray(value) ? value.map(String) : [];
        return (
          <TextField
            label={label}
            hint={[hint, "One in a line"].filter(Boolean).join(". ")}
            pointer={pointer}
            rows={Math.max(2, Math.min(8, lines.length + 1))}
            value={lines.join("\n")}
            onChange={(text) => onChange(text === "" ? undefined : text.split("\n"))}
          />
        );
      }
      return (
        <JsonField
          label={label}
          hint={hint}
          pointer={pointer}
          value={value ?? null}
          onChange={onChange}
          onBroken={onBroken}
        />
      );
  }
}

/** What is no number is the server's to say, and is not lost meanwhile. */
function numberOf(text: string): number | string {
  const number = Number(text);
  return text.trim() !== "" && Number.isFinite(number) && String(number) === text.trim() ? number : text;
}
