import { expect, test } from "vitest";
import { parsed, sum } from "./metrics";

const TEXT = `# HELP collodi_http_requests Requests answered.
# TYPE collodi_http_requests counter
collodi_http_requests_total{method="GET",status="2xx"} 3
collodi_http_requests_total{method="GET",status="5xx"} 1
collodi_profiles 7
# EOF
`;

test("series are read by name and label", () => {
  const metrics = parsed(TEXT);
  expect(sum(metrics, "collodi_http_requests_total")).toBe(4);
  expect(sum(metrics, "collodi_http_requests_total", 'status="5xx"')).toBe(1);
  expect(sum(metrics, "collodi_profiles")).toBe(7);
  expect(sum(metrics, "collodi_prof")).toBe(0);
});
