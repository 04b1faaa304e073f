import { attempted } from './failure.js';

/** Is the page, where there is one: neither servers nor React Native have any. */
export type Page = Document | undefined;

/** Is the guest that a tab knows, or null when consent was withdrawn. */
export type Word = string | null;

/**
 * Calls `hear` with what other tabs say, and `come` when the visitor comes back to the page: from the back-forward
 * cache if `isRestored`. Returns what tells the other tabs.
 */
export function watch(
    page: Page,
    name: string,
    hear: (word: Word) => void,
    come: (isRestored: boolean) => void,
): (word: Word) => void {
    let channel: BroadcastChannel | undefined;
    // Not every browser has them.
    const open = () =>
        attempted(() => {
            channel ||= new BroadcastChannel(name);
            channel.onmessage = ({ data }) => hear(data);
        });
    if (page) {
        void open();
        // An open channel keeps a page out of the back-forward cache.
        addEventListener('pagehide', () => {
            channel?.close();
            channel = undefined;
        });
        addEventListener('pageshow', ({ persisted }) => {
            void open();
            if (persisted) come(true);
        });
        page.addEventListener('visibilitychange', () => {
            if (!page.hidden) come(false);
        });
    }
    return (word) => channel?.postMessage(word);
}

/** Waits until the visitor sees the page: one that is prerendered may never be seen. */
export const activation = (page: Page): Promise<unknown> =>
    new Promise((resolve) => {
        if ((page as { prerendering?: boolean } | undefined)?.prerendering)
            page!.addEventListener('prerenderingchange', resolve);
        else resolve(undefined);
    });
