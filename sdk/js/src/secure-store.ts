import type { Storage } from './storage-mode.js';

/** Is the part of expo-secure-store that keeps texts. */
export interface SecureStore {
    getItemAsync(key: string): Promise<string | null>;
    setItemAsync(key: string, value: string): Promise<void>;
    deleteItemAsync(key: string): Promise<void>;
}

/** Keeps the guest in the keychain of the device, by expo-secure-store. */
export const secureStore = (store: SecureStore): Storage => ({
    getItem: (key) => store.getItemAsync(key),
    setItem: (key, value) => store.setItemAsync(key, value),
    removeItem: (key) => store.deleteItemAsync(key),
});
