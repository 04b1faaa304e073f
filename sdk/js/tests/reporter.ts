import { basename } from 'node:path';
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node';

const fileOf = ({ moduleId }: TestModule): string => basename(moduleId, '.test.ts');

/** Prints a line for each test, as `cargo test` does, and what went wrong. */
export default class implements Reporter {
    #passed = 0;
    #failed = 0;

    onTestCaseResult(test: TestCase): void {
        const build = test.project.name === 'source' ? '' : `${test.project.name}::`;
        this.#report(
            `${build}${fileOf(test.module)}::${test.name}`,
            test.result().state === 'passed',
            test.result().errors,
        );
    }

    onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
        for (const module of modules) {
            const errors = module.errors();
            if (errors.length > 0) this.#report(fileOf(module), false, errors);
        }
        if (unhandled.length > 0) this.#report('unhandled_errors', false, unhandled);
        console.log(`${this.#passed} passed, ${this.#failed} failed`);
    }

    #report(name: string, isPassed: boolean, errors?: readonly SerializedError[]): void {
        if (isPassed) this.#passed++;
        else this.#failed++;
        console.log(`test sdk::${name} ... ${isPassed ? 'ok' : 'FAILED'}`);
        for (const error of errors ?? []) console.log(error.stack ?? error.message);
    }
}
