// Fields with their label, their mark when they differ, and what the server says of them underneath.

import { createContext, useContext, useId } from "react";
import type { Problem } from "../api";

/** What is wrong with the draft, by place. */
export const Problems = createContext<Problem[]>([]);

export function useProblems(pointer: string): Problem[] {
  const all = useContext(Problems);
  return all.filter((problem) => problem.pointer === pointer || problem.pointer.startsWith(`${pointer}/`));
}

interface FieldProps {
  label: string;
  hint?: string | undefined;
  /** Where in the document its problems are. */
  pointer: string;
  changed?: boolean;
  children: (ids: { id: string; "aria-describedby": string; "aria-invalid": boolean }) => React.ReactNode;
}

export function Field({ label, hint, pointer, changed, children }: FieldProps) {
  const id = useId();
  const problems = useProblems(pointer);
  return (
    <div className="field" data-changed={changed === true}>
      <label htmlFor={id}>{label}</label>
      {children({ id, "aria-describedby": `${id}-about`, "aria-invalid": problems.length > 0 })}
      <div id={`${id}-about`} className="field-about">
        {hint && problems.length === 0 && <p>{hint}</p>}
        <Complaints problems={problems} />
      </div>
    </div>
  );
}

export function Complaints({ problems }: { problems: Problem[] }) {
  return problems.map((problem) => (
    <p key={problem.pointer + problem.message} className="complaint">
      {problem.message}
    </p>
  ));
}

interface TextProps extends Omit<FieldProps, "children"> {
  value: string;
  onChange: (value: string) => void;
  rows?: number;
  disabled?: boolean;
}

export function TextField({ value, onChange, rows, disabled, ...field }: TextProps) {
  const shared = { value, disabled, onChange: (event: { target: { value: string } }) => onChange(event.target.value) };
  return (
    <Field {...field}>
      {(ids) => (rows ? <textarea rows={rows} {...shared} {...ids} /> : <input type="text" {...shared} {...ids} />)}
    </Field>
  );
}

interface JsonProps extends Omit<FieldProps, "children"> {
  value: unknown;
  onChange: (value: unknown) => void;
  onBroken: (broken: boolean) => void;
}

/** JSON as text. What does not parse is kept as it stands, and said. */
export function JsonField({ value, onChange, onBroken, ...field }: JsonProps) {
  const shown = JSON.stringify(value, null, 2);
  return (
    <Field {...field}>
      {(ids) => <JsonText key={shown} shown={shown} onChange={onChange} onBroken={onBroken} ids={ids} />}
    </Field>
  );
}

function JsonText({
  shown,
  onChange,
  onBroken,
  ids,
}: {
  shown: string;
  onChange: (value: unknown) => void;
  onBroken: (broken: boolean) => void;
  ids: Parameters<FieldProps["children"]>[0];
}) {
  return (
    <textarea
      className="mono"
      rows={Math.min(16, shown.split("\n").length + 1)}
      defaultValue={shown}
      onInput={(event) => onBroken(parsed(event.currentTarget.value) === undefined)}
      onBlur={(event) => {
        const value = parsed(event.currentTarget.value);
        if (value !== undefined) onChange(value);
      }}
      {...ids}
    />
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Words with commas between them. */
export function ListField({
  value,
  onChange,
  ...field
}: Omit<TextProps, "value" | "onChange"> & {
  value: string[];
  onChange: (value: string[]) => void;
}) {
  const shown = value.join(", ");
  const words = (text: string) =>
    text
      .split(",")
      .map((word) => word.trim())
      .filter(Boolean);
  return (
    <Field {...field}>
      {(ids) => (
        <input
          key={shown}
          type="text"
          defaultValue={shown}
          onBlur={(event) => onChange(words(event.target.value))}
          {...ids}
        />
      )}
    </Field>
  );
}
