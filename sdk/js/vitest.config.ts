import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

// Each test speaks to the real server, and is given as long as the busiest machine may need.
const common = { testTimeout: 600_000, hookTimeout: 120_000, globals: false, unstubGlobals: true };

export default defineConfig({
    test: {
        globalSetup: 'tests/server.ts',
        reporters: [here('tests/reporter.ts')],
        maxWorkers: 1,
        minWorkers: 1,
        projects: [
            {
                extends: true,
                resolve: { alias: { guestpass: here('src/index.ts') } },
                test: { ...common, name: 'source', include: ['tests/*.test.ts'] },
            },
            {
                extends: true,
                resolve: { alias: { guestpass: here('guestpass.min.js') } },
                test: { ...common, name: 'minified', include: ['tests/{cookies,faults,migration,storage}.test.ts'] },
            },
        ],
    },
});
