"""What only a checkout needs: the generator of derived docs, and checks that compare two states of the code."""
