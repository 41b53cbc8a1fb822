"""Which examples make which sequence; splits; plans of mixes. It sees lengths only."""
