# Hotdesk's own session script: a plain desktop of openbox with one terminal
# window. An administrator replaces it with -session-script FILE.
#
# It runs as the session's user. HOTDESK_SESSION is the session's id,
# HOTDESK_SIZE the screen of the terminal that asked for the session (empty if
# unknown), HOTDESK_LAYOUT its keyboard. The session lasts as long as this
# script: it ends by becoming the window manager.

if ! command -v openbox >/dev/null; then
	echo "openbox is not installed on this host"
	exit 127
fi
if command -v xsetroot >/dev/null; then
	xsetroot -solid '#2f4858'
fi
# The window manager starts the terminal when it is ready: only a window that
# it sees come gets the keyboard.
exec openbox --startup "xterm -u8 -fa 'DejaVu Sans Mono' -fs 11 -geometry 80x24+60+60 -bg '#fbfaf7' -fg '#22272b' -cr '#b3541e' -sl 5000 -title Terminal"
