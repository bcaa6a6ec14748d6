import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // A test of what stays in memory must not count what only awaits collection.
    execArgv: ['--expose-gc'],
    // `kvio` resolves to dist/: tests run what ships, as one module instance.
    server: { deps: { external: [/\/dist\//] } },
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
