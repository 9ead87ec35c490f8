"""Named variants: functions without arguments that return {short name: value}, one a file, decorated with @register."""
