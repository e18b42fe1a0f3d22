"""What `nanochat doctor` looks at, a subject each. Nothing here changes anything.

    settings   what is set, and whether it can stand together      reach     the model's endpoint and Telegram, over the network
    storage    the data directory: room, rights                    damage    files that cannot be read as they should
    serving    the daemon, what waits for it, and its ways in

`finding` is what each of them says.
"""
