# A cache of compiled components for these commands alone.
export XDG_CACHE_HOME="$PWD/cache" STORAGE_HOST_LOG=warn STORAGE_HOST_STORE=memory:
compiled=cache/storage-host/compiled

# Runs a component, which ends with 0 or 1. Shows that, and what the log says.
run() {
    { storage-host run --id a/b/c "$1.wasm"; echo "$1: $?"; } 2>&1 | sed 's/^.*WARN/WARN/; s/ (os error [0-9]*)//; s/[0-9a-f]\{32,\}/[ENTRY]/g'
}

# Runs a component for the first time. $entry is the file with its code.
first() {
    ls $compiled >names 2>/dev/null
    run "$1"
    entry=$compiled/$(ls $compiled | grep -vxF -f names)
}
