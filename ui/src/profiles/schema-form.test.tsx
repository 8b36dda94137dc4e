// @vitest-environment happy-dom
import { cleanup, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState } from "react";
import { afterEach, expect, test } from "vitest";
import { Problems } from "./fields";
import type { Schema } from "./queries";
import { SchemaForm } from "./schema-form";

afterEach(cleanup);

const SCHEMA: Schema = {
  type: "object",
  required: ["mode"],
  properties: {
    mode: { type: "string", enum: ["fast", "slow"], description: "How it goes" },
    rows: { type: "integer", default: 20, minimum: 1 },
    strict: { type: "boolean" },
    names: { type: "array", items: { type: "string" } },
    deep: { type: "object", properties: { label: { type: "string", title: "Label" } } },
  },
};

function Held({ onChange }: { onChange: (value: Record<string, unknown>) => void }) {
  const [value, setValue] = useState<Record<string, unknown>>({});
  const change = (next: Record<string, unknown>) => {
    setValue(next);
    onChange(next);
  };
  return <SchemaForm schema={SCHEMA} value={value} pointer="/config" onChange={change} onBroken={() => {}} />;
}

test("each kind of member has its control, and what is emptied is not sent", async () => {
  const user = userEvent.setup();
  let now: Record<string, unknown> = {};
  render(
    <Held
      onChange={(value) => {
        now = value;
      }}
    />,
  );
  await user.selectOptions(screen.getByLabelText("mode (required)"), "fast");
  await user.type(screen.getByLabelText("rows"), "5");
  await user.selectOptions(screen.getByLabelText("strict"), "No");
  await user.type(screen.getByLabelText("names"), "a{Enter}b");
  await user.type(screen.getByLabelText("Label"), "x");
  expect(now).toEqual({ mode: "fast", rows: 5, strict: false, names: ["a", "b"], deep: { label: "x" } });
  await user.clear(screen.getByLabelText("rows"));
  await user.clear(screen.getByLabelText("Label"));
  expect(now).toEqual({ mode: "fast", strict: false, names: ["a", "b"] });
});

test("what is no number is kept for the server to judge, and what it says stands at the field", async () => {
  const user = userEvent.setup();
  let now: Record<string, unknown> = {};
  const problems = [{ pointer: "/config/rows", field: "rows", keyword: "type", message: "expected integer" }];
  render(
    <Problems.Provider value={problems}>
      <Held
        onChange={(value) => {
          now = value;
        }}
      />
    </Problems.Provider>,
  );
  const rows = screen.getByLabelText("rows");
  await user.type(rows, "many");
  expect(now).toEqual({ rows: "many" });
  expect(rows.getAttribute("aria-invalid")).toBe("true");
  const about = document.getElementById(rows.getAttribute("aria-describedby") ?? "");
  expect(about?.textContent).toBe("expected integer");
  expect(screen.getByLabelText("strict").getAttribute("aria-invalid")).toBe("false");
});
