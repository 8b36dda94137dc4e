import { defineConfig } from "vitest/config";

// One browser and one server at a time: what is tested is the page, not the machine.
export default defineConfig({
  test: {
    include: [process.env.SHOTS ? "e2e/**/*.shot.ts" : "e2e/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false,
  },
});
