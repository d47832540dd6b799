"""The settings of a server: what they are, and where each value comes from.

``Settings.load`` gives flags precedence over the environment, that over
``.env``, that over a TOML file, and that over the defaults. What can't be used
is a ``ConfigError``: nothing is guessed and nothing is ignored in silence.
"""

from __future__ import annotations

from mq.config.settings import Settings, SettingSource

__all__ = ["SettingSource", "Settings"]
