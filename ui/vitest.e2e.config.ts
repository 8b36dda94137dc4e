import { defineConfig } from "vitest/config";

// One browser and one server at a time: what is tested is the page, not the machine.
export default defineConfig({
  test: {
    // `KIND=shot` makes pictures, `KIND=measure` measures.
    include: [`e2e/**/*.${process.env.KIND ?? "test"}.ts`],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false,
  },
});
